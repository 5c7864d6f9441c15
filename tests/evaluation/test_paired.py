"""P-values checked by simulation: where there is no difference they are uniform, so 5 % of them are below 0.05."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ttest_rel  # type: ignore[import-untyped]  # scipy has no types

from condition.evaluation.paired import DRAWS, bootstrap, compared, compared_pooled, holm, mcnemar
from condition.evaluation.statistics import estimate


def off_uniform(p_values: NDArray[np.float64]) -> float:
    """The largest distance from the uniform distribution, in units of 1 / sqrt(n): above 1.63 in 1 % of samples."""
    ordered = np.sort(p_values)
    count = len(ordered)
    return float(np.abs(ordered - (np.arange(count) + 0.5) / count).max() * sqrt(count))


def test_mcnemar_by_hand() -> None:
    """3 of 10: twice the probability of 0, 1 or 2 of 10, and of half of 3 of 10."""
    below = sum(comb(10, k) for k in (0, 1, 2)) + comb(10, 3) / 2
    assert mcnemar(3, 7) == pytest.approx(2 * below / 2**10)
    assert mcnemar(7, 3) == mcnemar(3, 7)
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5 / 2**5)


def test_mcnemars_p_values_are_uniform_where_nothing_differs() -> None:
    """All 301 splits of 300 rows with their probabilities; uniform but for the steps of a count."""
    chances = np.array([comb(300, k) / 2**300 for k in range(301)])
    found = np.array([mcnemar(k, 300 - k) for k in range(301)])
    for level in (0.01, 0.05, 0.1, 0.3, 0.5):
        step = chances[np.abs(found - level).argmin()]
        assert chances[found <= level].sum() == pytest.approx(level, abs=2 * step)
    assert chances[found <= 0.05].sum() <= 0.06


@pytest.mark.parametrize(("clusters", "rows"), [(150, 1), (40, 5), (15, 4)])
def test_the_bootstraps_p_values_are_uniform_where_nothing_differs(clusters: int, rows: int) -> None:
    """Rows of one cluster hang together; differences are F1-like: often 0, else between -1 and 1."""
    numbers = np.random.default_rng(clusters)
    names = np.repeat(np.arange(clusters), rows).tolist()
    found = []
    for _ in range(300):
        shared = np.repeat(numbers.uniform(-0.5, 0.5, clusters), rows)
        own = numbers.uniform(-0.5, 0.5, clusters * rows) * (numbers.random(clusters * rows) < 0.5)
        found.append(bootstrap((shared + own).tolist(), names, draws=400))
    assert off_uniform(np.array(found)) <= 1.63
    assert 0.025 <= np.mean(np.array(found) < 0.05) <= 0.08


def test_by_rows_the_same_rows_would_look_surer_than_they_are() -> None:
    numbers = np.random.default_rng(5)
    names = np.repeat(np.arange(30), 8).tolist()
    found = []
    for _ in range(60):
        values = np.repeat(numbers.uniform(-0.5, 0.5, 30), 8).tolist()
        found.append((bootstrap(values, names, draws=200), bootstrap(values, draws=200)))
    by_cluster, by_row = np.mean(np.array(found) < 0.05, axis=0)
    assert by_cluster <= 0.15
    assert by_row >= 0.3


def test_a_difference_is_found() -> None:
    numbers = np.random.default_rng(1)
    values = (numbers.uniform(-0.5, 0.5, 100) + 0.15).tolist()
    assert bootstrap(values, draws=2000) < 0.005
    assert bootstrap([-v for v in values], draws=2000) < 0.005


def test_the_same_rows_give_the_same_p_value() -> None:
    values = [0.1, -0.4, 0.5, 0.2, 0.0, 0.3]
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) >= 1 / (DRAWS + 1)


def test_what_says_nothing() -> None:
    assert bootstrap([0.5, 0.7], ["a", "a"]) == 1
    assert bootstrap([0.0] * 9) == 1
    assert bootstrap([0.25] * 3) == 2 / 2**3  # three alike: by chance all on one side
    assert bootstrap([0.25] * 20) == 2 / 2**20


def test_holm_by_hand() -> None:
    """Sorted 0.01 0.02 0.04 times 3, 2, 1, never falling."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_wrong_in_one_table_of_twenty() -> None:
    """Four comparisons without a difference: without correction 1 - 0.95^4 = 18.5 % of tables have a false find."""
    tables = np.random.default_rng(2).random((4000, 4)).tolist()
    assert np.mean([min(holm(table)) < 0.05 for table in tables]) <= 0.06
    assert np.mean([min(table) < 0.05 for table in tables]) >= 0.16


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_only_raises_and_keeps_the_order(values: list[float]) -> None:
    found = holm(values)
    assert all(value <= corrected <= 1 for value, corrected in zip(values, found, strict=True))
    order = sorted(range(len(values)), key=lambda i: values[i])
    assert [found[i] for i in order] == sorted(found)


def test_which_test_is_taken() -> None:
    right = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    wrong = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    alone = compared(wrong, right)
    assert (alone.test, alone.p) == ("McNemar", mcnemar(2, 0))
    assert alone.difference.value == pytest.approx(2 / 6)
    assert compared(wrong, right, list("aabbcc")).test == "paired bootstrap"
    assert compared([0.5, *wrong], [0.6, *right]).test == "paired bootstrap"
    assert compared(wrong, right, list("abcdef")).test == "McNemar"
    same = compared(right, right)
    assert (same.p, same.difference.value) == (1, 0)


def test_the_difference_is_second_less_first() -> None:
    assert compared([0.2] * 4, [0.5, 0.4, 0.5, 0.6]).difference.value == pytest.approx(0.3)
    worse = compared([3.0, 2.0, 4.0], [1.0, 2.0, 1.0])
    assert worse.difference.value == pytest.approx(-5 / 3)
    assert worse.difference.low < -1


def mean(sums: Sequence[float]) -> float:
    return sums[0] / sums[1]


def test_a_difference_of_pooled_measures_by_hand() -> None:
    """Of a mean the jackknife's error is the t interval's own, so that interval and p-value are those of a t test."""
    one, two = [0.1, 0.4, 0.2, 0.3], [0.5, 0.6, 0.3, 0.9]
    found = compared_pooled([(v, 1) for v in one], [(v, 1) for v in two], mean)
    assert found.difference.value == pytest.approx(0.325)
    by_rows = estimate([b - a for a, b in zip(one, two, strict=True)])
    assert (found.difference.low, found.difference.high) == pytest.approx((by_rows.low, by_rows.high))
    assert found.p == pytest.approx(ttest_rel(one, two).pvalue)
    assert found.test == "jackknife"


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [([1.0], [1.0, 0.0], "1 values beside 2"), ([float("nan")], [1.0], "no finite"), ([], [], "no values")],
)
def test_what_can_not_be_compared(one: list[float], two: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compared(one, two)
