"""How a broken promise is told: whose it is, what was promised, what was seen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, final

T = TypeVar("T")


@final
class Promises:
    """The promises of one block, each told and checked by a method that raises AssertionError.

    "Model Parrot: generate gives one list for each prompt. Seen: 2 lists for 3 prompts"
    """

    def __init__(self, protocol: type, block: object) -> None:
        self.block = block
        own = getattr(block, "__name__", None) or type(block).__name__
        self.who = f"{protocol.__name__} {own}"
        if isinstance(block, type) and "__call__" not in _members(protocol):
            raise self.broken("it is an object, not its class", f"the class {own}; give {own}(...)")
        if not isinstance(block, protocol):
            needs = ", ".join(sorted(_members(protocol)))
            lacks = ", ".join(name for name in sorted(_members(protocol)) if not hasattr(block, name))
            raise self.broken(f"it has {needs}", f"{own} without {lacks or needs}")

    def broken(self, promise: str, seen: object) -> AssertionError:
        """What to raise."""
        return AssertionError(f"{self.who}: {promise}. Seen: {_short(seen)}")

    def keeps(self, kept: bool, promise: str, seen: object) -> None:
        """One promise."""
        if not kept:
            raise self.broken(promise, seen)

    def call(self, promise: str, function: Callable[..., T], /, *args: Any, **named: Any) -> T:
        """What the block gives. That it raises nothing, and changes nothing of plain arguments, is promised too."""
        given = copy.deepcopy((args, named))
        try:
            found = function(*args, **named)
        except Exception as error:  # a block is another's code
            raise self.broken(promise, f"{type(error).__name__}: {error}") from error
        if not same((args, named), given):
            raise self.broken("it changes nothing of what it is given", f"{given} became {(args, named)}")
        return found

    def refuses(self, promise: str, function: Callable[..., object], /, *args: Any, **named: Any) -> Exception:
        """The error that was promised."""
        try:
            found = function(*args, **named)
        except Exception as error:  # of any kind: nobody has to know ours
            return error
        raise self.broken(promise, f"no error, but {found!r}")

    def one_each(self, found: object, count: int, what: str, promise: str) -> Sequence[Any]:
        """A list with as many entries as were asked for."""
        self.keeps(isinstance(found, list), promise, f"{type(found).__name__} instead of a list")
        entries: list[Any] = found  # type: ignore[assignment]
        self.keeps(len(entries) == count, promise, f"{len(entries)} for {count} {what}")
        return entries

    def all_are(self, found: Iterable[object], kind: type, promise: str) -> None:
        """Values of one type."""
        for one in found:
            self.keeps(isinstance(one, kind), promise, f"{type(one).__name__}, {one!r}")


def same(first: object, second: object, tolerance: float = 0.0) -> bool:
    """Whether two values are equal, numbers within a tolerance, "not a number" and itself included."""
    if isinstance(first, float) and isinstance(second, float):
        both_not = math.isnan(first) and math.isnan(second)
        return both_not or first == second or math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return list(first) == list(second) and all(same(first[name], second[name], tolerance) for name in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(same(a, b, tolerance) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def _members(protocol: type) -> Iterable[str]:
    """What a Protocol asks for, as Python 3.11 keeps it."""
    found: Iterable[str] = getattr(protocol, "__protocol_attrs__", None) or [
        name for name in vars(protocol) if not name.startswith("_") or name == "__call__"
    ]
    return found


def _short(seen: object) -> str:
    told = str(seen)
    return told if len(told) <= 400 else f"{told[:400]} ..."
