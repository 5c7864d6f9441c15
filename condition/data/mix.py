"""Several data sets in one, by ratio.

rows = mix({"qa": "squad.jsonl", "chat": "alpaca.jsonl"}, {"qa": 3, "chat": 1})    # three of qa to one of chat
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from numbers import Integral, Real

from condition.data.read import read
from condition.errors import DataError
from condition.types import Example


def mix(
    sources: Mapping[str, object],
    ratios: Mapping[str, float] | None = None,
    *,
    rows: int | None = None,
    seed: int = 0,
) -> list[Example]:
    """Rows of several sources, shuffled; each source is a path, a data set or rows, as `read` takes them.

    `ratios` say how many of each there are, relative to each other; without them all rows of all sources are taken.
    `rows` is how many there are in all: as many as no source has to repeat itself for, where it is not given. A source
    that is asked for more than it has gives each of its rows as often as any other, or once more. The id of a row
    begins with the name of its source. Raises DataError for names that differ, for ratios that are not above 0, and
    where a source would give no row at all.
    """
    for what, given in (("the sources", sources), ("the ratios", {} if ratios is None else ratios)):
        if not isinstance(given, Mapping):
            raise DataError(f"mix: {what} are {type(given).__name__}, without names: give {{'name': …, 'other': …}}")
    read_rows = {name: read(source) for name, source in sources.items()}
    if empty := [name for name, found in read_rows.items() if not found]:
        raise DataError(f"mix: {empty[0]!r} has no rows")
    if not read_rows:
        raise DataError("mix: no sources: give {'name': rows, ...}")
    numbers = _numbers(read_rows, ratios, rows)
    draw = random.Random(seed)
    mixed: list[Example] = []
    for name, number in numbers.items():
        found = read_rows[name]
        times, rest = divmod(number, len(found))
        chosen = found * times + draw.sample(found, rest)
        mixed += [row.model_copy(update={"id": f"{name}: {row.id}"}) for row in chosen]
    draw.shuffle(mixed)
    return mixed


def _numbers(
    found: Mapping[str, list[Example]], ratios: Mapping[str, float] | None, rows: int | None
) -> dict[str, int]:
    """How many rows of each source."""
    if ratios is None:
        ratios = {name: len(of) for name, of in found.items()}
    if ratios.keys() != found.keys():
        raise DataError(
            f"mix: the ratios name {', '.join(map(str, ratios))}, the sources {', '.join(map(str, found))}: "
            "give a ratio for each source, by its name; a source that is not wanted is left out of both"
        )
    if wrong := [name for name, ratio in ratios.items() if not _above_0(ratio)]:
        raise DataError(f"mix: the ratio of {wrong[0]!r} is {ratios[wrong[0]]!r}: give a number above 0")
    total = sum(ratios.values())
    if rows is None:
        rows = int(min(len(of) * total / ratios[name] for name, of in found.items()) + 1e-9)
    if not isinstance(rows, Integral):
        raise DataError(f"mix: rows={rows!r}: give a whole number")
    exact = {name: rows * ratio / total for name, ratio in ratios.items()}
    numbers = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda n: numbers[n] - exact[n])[: rows - sum(numbers.values())]:
        numbers[name] += 1  # what rounding down left goes to the largest remainders
    if none := [name for name in numbers if numbers[name] < 1]:
        enough = math.ceil(total / min(ratios.values()) - 1e-9)
        raise DataError(
            f"mix: {rows} rows are too few for {len(found)} sources by these ratios: {none[0]!r} would give none. "
            f"Give mix(..., rows={enough}) or more (a source that is too small repeats itself), or other ratios"
        )
    return numbers


def _above_0(ratio: object) -> bool:
    return isinstance(ratio, Real) and 0 < float(ratio) < math.inf
