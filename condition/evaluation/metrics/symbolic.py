"""Whether two answers are the same to sympy: a program that reads pairs as JSON lines and says "true" or "false".

It is a program of its own because an expression can keep sympy busy for ever, or fill the memory: see `Equality`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import sympy  # type: ignore[import-untyped]  # sympy has no types

from condition.evaluation.metrics.latex import parse

MEMORY_BYTES = 2 << 30


def same(one: str, other: str) -> bool:
    """Whether two answers have equal values: sympy's difference is zero. False where one can't be read."""
    try:
        return _equal(parse(one), parse(other))
    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError, NotImplementedError):
        return False


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) or isinstance(other, tuple):
        if not (isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other)):
            return False
        if one[0] in ("{", r"\lbrace") and other[0] in ("{", r"\lbrace"):  # a set, in any order
            left = list(other[1:-1])
            for part in one[1:-1]:
                found = next((i for i, candidate in enumerate(left) if _equal(part, candidate)), None)
                if found is None:
                    return False
                del left[found]
            return True
        return one[0] == other[0] and one[-1] == other[-1] and all(map(_equal, one[1:-1], other[1:-1]))
    if one == other:
        return True
    if one.free_symbols != other.free_symbols:
        return False
    difference = one - other
    if not difference.free_symbols and abs(complex(difference.evalf(30))) > 1e-9 * max(1, abs(complex(other.evalf()))):
        return False
    return bool(sympy.simplify(difference) == 0)


def main() -> None:
    """Answer until the input ends."""
    with suppress(ImportError, ValueError, OSError):  # Windows, and systems that know no such limit
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = same(*json.loads(line))
        except MemoryError:
            answer = False
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
