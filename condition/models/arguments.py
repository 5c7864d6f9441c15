"""Arguments of the wrong type, refused at the door with the call that was meant."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from condition.control.codes import ControlCodes
from condition.errors import ControlError, SettingsError
from condition.protocols import Control
from condition.types import Options


def check_options(given: object, kind: type[Options], name: str, *meant: Mapping[str, Any]) -> None:
    """Raises SettingsError where the argument `name` is no `kind`.

    It shows a dict's own settings, or the first of `meant` that is possible.
    """
    if isinstance(given, kind):
        return
    shown = given if isinstance(given, Mapping) else next((m for m in meant if _is_possible(kind, m)), {})
    call = f"cd.{kind.__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"
    raise SettingsError(f"{name}={given!r:.80} is no {kind.__name__}: give {call}")


def check_control(given: object) -> None:
    """Raises ControlError where `control=` is something else. None is no control and fits."""
    if given is None or (isinstance(given, Control) and not isinstance(given, type)):
        return
    advice = 'such as cd.Choice(["yes", "no"]) or cd.JSONSchema(schema)'
    if isinstance(given, ControlCodes):
        advice += "; ControlCodes belong into the prompt: cd.ControlCodes(...)(prompt)"
    raise ControlError(f"control={given!r:.80} is no control: give one, {advice}")


def check_counts(*, least: int = 1, **given: object) -> None:
    """Raises SettingsError for what is no whole number, or a smaller one."""
    for name, number in given.items():
        if not isinstance(number, int) or number < least:
            raise SettingsError(f"{name}={number!r:.80}: give a whole number of at least {least}")


def _is_possible(kind: type[Options], settings: Mapping[str, Any]) -> bool:
    with suppress(SettingsError):
        kind(**settings)
        return True
    return False
