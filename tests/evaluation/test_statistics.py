from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from condition.evaluation.statistics import Estimate, estimate, pooled


def test_by_hand() -> None:
    """t of 0.975 with 3 degrees of freedom is 3.182; s = 0.5."""
    found = estimate([1.0, 0.0, 1.0, 1.0])
    assert (found.value, found.n) == (0.75, 4)
    assert found.low == pytest.approx(0.75 - 3.18245 * 0.5 / 2, abs=1e-4)
    assert found.high == pytest.approx(0.75 + 3.18245 * 0.5 / 2, abs=1e-4)
    # All p with (p - 0.75)^2 <= 3.18245^2 p (1 - p) / m, where 0.75 * 0.25 / m is the squared error, so m = 3.
    share = estimate([1.0, 0.0, 1.0, 1.0], bounds=(0, 1))
    for p in (share.low, share.high):
        assert (p - 0.75) ** 2 == pytest.approx(3.182446**2 * p * (1 - p) / 3, rel=1e-5)
    assert 0 < share.low < 0.75 < share.high < 1
    assert estimate([0.5] * 9) == Estimate(0.5, 0.5, 0.5, 9)


def test_one_cluster_says_nothing_about_others() -> None:
    assert estimate([1.0, 0.0], ["a", "a"], bounds=(0, 1)) == Estimate(0.5, 0.0, 1.0, 2)
    assert estimate([2.0]) == Estimate(2.0, -math.inf, math.inf, 1)


def test_no_success_among_twenty_is_not_a_certain_zero() -> None:
    """Clopper and Pearson: 0 of 20 leaves up to 16.8 %."""
    none = estimate([0.0] * 20, bounds=(0, 1))
    assert (none.low, none.high) == (0.0, pytest.approx(0.1684, abs=1e-4))
    every = estimate([1.0] * 20, bounds=(0, 1))
    assert (every.low, every.high) == (pytest.approx(0.8316, abs=1e-4), 1.0)
    same = estimate([0.0] * 20, bounds=(-1, 1))
    assert same.low == -same.high


def covered(values: NDArray[np.float64], clusters: list[int], truth: float) -> float:
    """Share of the samples `[samples, n]` whose interval holds the truth."""
    found = [estimate(sample.tolist(), clusters, bounds=(0, 1)) for sample in values]
    return sum(e.low <= truth <= e.high for e in found) / len(found)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_it_covers_the_truth_as_often_as_it_says(share: float) -> None:
    """Right and wrong, in samples of several sizes: one size alone covers more or less, as counts go in steps."""
    numbers = np.random.default_rng(int(100 * share))
    found = [
        covered((numbers.random((200, rows)) < share).astype(float), list(range(rows)), share)
        for rows in range(80, 280, 20)
    ]
    assert 0.935 <= float(np.mean(found)) <= 0.965


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_it_covers_the_truth_where_rows_of_a_passage_hang_together(share: float) -> None:
    """80 passages of 6 questions; how easy a passage is differs widely (correlation 1 / 3)."""
    numbers = np.random.default_rng(int(10 * share))
    clusters = np.repeat(np.arange(80), 6).tolist()
    easy = numbers.beta(2 * share, 2 * (1 - share), (1500, 80))
    values = (numbers.random((1500, 480)) < np.repeat(easy, 6, axis=1)).astype(float)
    assert 0.935 <= covered(values, clusters, share) <= 0.965
    assert covered(values[:150], list(range(480)), share) < 0.85  # by rows it would not


@pytest.mark.parametrize(("none", "whole"), [(0.3, 0.3), (0.8, 0.1)])
def test_it_covers_the_truth_of_measures_between_0_and_1(none: float, whole: float) -> None:
    """As F1 goes: often 0, often 1, else between."""
    numbers = np.random.default_rng(int(10 * none))
    kind = numbers.random((1500, 60))
    values = np.where(kind < none, 0.0, np.where(kind < none + whole, 1.0, numbers.random((1500, 60))))
    truth = whole + (1 - none - whole) / 2
    assert 0.935 <= covered(values, list(range(60)), truth) <= 0.965


@pytest.mark.parametrize("count", [2, 3, 5, 10, 24])
def test_it_covers_the_truth_with_few_clusters(count: int) -> None:
    """Five rows a passage, half of them right."""
    numbers = np.random.default_rng(3)
    clusters = np.repeat(np.arange(count), 5).tolist()
    drawn = [numbers.integers(0, 2, 5 * count).astype(float).tolist() for _ in range(400)]
    found = [estimate(values, clusters, bounds=(0, 1)) for values in drawn]
    assert sum(e.low <= 0.5 <= e.high for e in found) / 400 >= 0.92


def test_it_is_close_to_the_textbook_for_many_values() -> None:
    """Normal values: mean +- 1.96 s / sqrt(n)."""
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = estimate(values.tolist())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_it_covers_the_truth_where_rows_hang_together() -> None:
    """40 passages, the 10 questions on one right or wrong together: by rows the interval would be far too small."""
    numbers = np.random.default_rng(2)
    by_cluster = by_row = 0
    for _ in range(200):
        values = np.repeat(numbers.random(40) < 0.5, 10).astype(float).tolist()
        clusters = np.repeat(np.arange(40), 10).tolist()
        found, naive = estimate(values, clusters), estimate(values)
        by_cluster += found.low <= 0.5 <= found.high
        by_row += naive.low <= 0.5 <= naive.high
        assert found.high - found.low > 2 * (naive.high - naive.low)
    assert by_cluster / 200 >= 0.88
    assert by_row / 200 < 0.6


def test_clusters_of_one_change_nothing() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert estimate(values, list("abcde")) == estimate(values)


def test_clusters_of_different_size_weigh_by_their_rows() -> None:
    found = estimate([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], bounds=(0, 1))
    assert found.value == 0.75
    assert found.low < 0.01
    assert found.high > 0.99
    # 20 passages with 9 right rows each, 20 with one wrong row: 0.9, and nothing is near 0.5.
    many = estimate([1.0] * 180 + [0.0] * 20, [*np.repeat(np.arange(20), 9).tolist(), *range(20, 40)])
    assert many.value == 0.9
    assert 0.8 < many.low < 0.9 < many.high < 0.97


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_interval_holds_the_mean_and_keeps_the_bounds(values: list[float]) -> None:
    found = estimate(values, bounds=(0, 1))
    assert -1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1 + 1e-9
    assert found.value == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_nothing_to_estimate_from() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_one_cluster_for_each_value() -> None:
    with pytest.raises(ValueError, match="2 clusters for 3 values"):
        estimate([1.0, 0.0, 1.0], ["a", "b"])


def test_it_prints_as_percent() -> None:
    assert str(Estimate(0.5, 0.25, 0.753, 9)) == "50.0 [25.0, 75.3]"
    assert str(Estimate(-0.5, -1, 0.25, 9)) == "-50.0 [-100.0, 25.0]"


def test_what_is_no_share_is_not_shown_in_percent() -> None:
    assert str(Estimate(31.25, 28.5, 34.0, 9)) == "31.25 [28.5, 34]"
    assert str(estimate([2.0])) == "2 [-inf, inf]"
    assert str(estimate([3.0, 5.0, 4.0])) == "4 [1.516, 6.484]"


def test_a_pooled_measure_that_one_cluster_alone_has() -> None:
    def mean(sums: Sequence[float]) -> float:
        return sums[0] / sums[1] if sums[1] else float("nan")

    found = pooled([(3.0, 1.0), (0.0, 0.0), (0.0, 0.0)], mean)
    assert (found.value, found.low, found.high) == (3, -math.inf, math.inf)


def test_clusters_that_all_agree_count_once_each() -> None:
    """Ten passages of two questions, all right: ten, not twenty, say that few are wrong."""
    found = estimate([1.0] * 20, [i // 2 for i in range(20)], bounds=(0, 1))
    alone = estimate([1.0] * 10, bounds=(0, 1))
    assert (found.low, found.high) == (alone.low, alone.high) == (pytest.approx(0.025 ** (1 / 10)), 1)
