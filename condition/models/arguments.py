"""Settings of the wrong type, refused at the door with the call that was meant."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from condition.errors import SettingsError
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


def _is_possible(kind: type[Options], settings: Mapping[str, Any]) -> bool:
    with suppress(SettingsError):
        kind(**settings)
        return True
    return False
