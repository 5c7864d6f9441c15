"""Several data sets in one, by ratio."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pytest

from condition.data.mix import mix
from condition.errors import DataError
from condition.types import Example


def rows(name: str, number: int) -> list[dict[str, Any]]:
    return [{"q": f"{name}{i}", "target": name} for i in range(number)]


def counts(mixed: list[Example]) -> Counter[str]:
    return Counter(row.target for row in mixed)


TWO = {"a": rows("a", 30), "b": rows("b", 10)}


def test_all_rows_without_ratios() -> None:
    mixed = mix(TWO)
    assert counts(mixed) == {"a": 30, "b": 10}
    assert len({row.id for row in mixed}) == 40
    assert {row.id.partition(":")[0] for row in mixed if row.id} == {"a", "b"}
    assert [row.target for row in mixed[:12]] != ["a"] * 12
    assert mix(TWO) == mixed != mix(TWO, seed=1)


@pytest.mark.parametrize(
    ("ratios", "total", "expected"),
    [
        ({"a": 1, "b": 1}, None, {"a": 10, "b": 10}),
        ({"a": 0.7, "b": 0.3}, None, {"a": 23, "b": 10}),
        ({"a": 6, "b": 1}, None, {"a": 30, "b": 5}),
        ({"a": 1, "b": 2}, 10, {"a": 3, "b": 7}),
        ({"a": 1, "b": 3}, 100, {"a": 25, "b": 75}),
    ],
)
def test_ratios(ratios: dict[str, float], total: int | None, expected: dict[str, int]) -> None:
    assert counts(mix(TWO, ratios, rows=total)) == expected


def test_rows_are_repeated_evenly_where_there_are_too_few() -> None:
    times = Counter(row.inputs["q"] for row in mix(TWO, {"a": 1, "b": 3}, rows=100) if row.target == "b")
    assert set(times.values()) == {7, 8}


@pytest.mark.parametrize(
    ("sources", "ratios", "options", "said"),
    [
        ({}, None, {}, "no sources"),
        ({"a": []}, None, {}, "'a' has no rows"),
        (TWO, {"a": 1}, {}, "the ratios name a, the sources a, b: give a ratio for each source"),
        (
            TWO,
            {"a": 1, "c": 1},
            {},
            "the ratios name a, c, the sources a, b: give a ratio for each source, by its name",
        ),
        (TWO, {"a": 1, "b": 0}, {}, "the ratio of 'b' is 0: give a number above 0"),
        (TWO, None, {"rows": 1}, "1 rows are too few for 2 sources"),
        (TWO, None, {"rows": -3}, "-3 rows are too few for 2 sources"),
        (TWO, None, {"rows": 2.5}, "rows=2.5: give a whole number"),
        (TWO, {"a": 1, "b": "much"}, {}, "the ratio of 'b' is 'much': give a number above 0"),
        (TWO, [1, 2], {}, "the ratios are list, without names"),
        ([rows("a", 3)], [1], {}, "the sources are list, without names: give {'name': …, 'other': …}"),
        ({"a": [{"q": "x"}]}, None, {}, "no column 'target'"),
    ],
)
def test_what_does_not_go(sources: Any, ratios: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        mix(sources, ratios, **options)


def test_no_source_vanishes_by_rounding() -> None:
    sources = {"a": rows("a", 5), "b": rows("b", 7), "c": rows("c", 4)}
    ratios = {"a": 0.1, "b": 5, "c": 0.3}
    said = r"mix: 7 rows are too few for 3 sources by these ratios: 'a' would give none. Give mix\(..., rows=54\)"
    with pytest.raises(DataError, match=said):
        mix(sources, ratios)
    with pytest.raises(DataError, match=r"3 rows are too few"):
        mix(sources, ratios, rows=3)
    assert counts(mix(sources, ratios, rows=54)) == {"a": 1, "b": 50, "c": 3}


def test_numbers_of_numpy() -> None:
    assert counts(mix(TWO, {"a": numpy.int64(1), "b": numpy.float32(1)}, rows=numpy.int64(4))) == {"a": 2, "b": 2}
