"""The adapters that one of several is made of, checked as they are typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condition.errors import SettingsError


def parts_of(who: str, given: Any, more: tuple[Any, ...], kinds: tuple[type[Any], ...]) -> tuple[Any, ...]:
    """The parts in a tuple; what a contract tells of one stays as it is.

    Raises SettingsError where they are in no tuple, and for what is none of `kinds`.
    """
    call = f"{who}(({kinds[0].__name__}(), {kinds[-1].__name__}()))"
    if more or not isinstance(given, list | tuple):
        shown = ", ".join(f"{type(part).__name__}(...)" for part in (given, *more)) if more else repr(given)
        raise SettingsError(f"{who} takes several adapters in a tuple, {call}, not {shown:.80}")
    for part in given:
        if isinstance(part, type) and issubclass(part, kinds):
            raise SettingsError(f"{who}: {part.__name__} is a class, and an adapter is wanted: write {part.__name__}()")
        if not isinstance(part, kinds) and not (isinstance(part, Mapping) and "kind" in part):
            known = ", ".join(kind.__name__ for kind in kinds)
            raise SettingsError(f"{who} can't hold {part!r:.80}: it takes {known}, such as {call}")
    return tuple(given)
