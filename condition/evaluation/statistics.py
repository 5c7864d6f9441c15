"""Intervals for means over whole clusters: questions on one passage are not independent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy has no types

from condition.types import Value

OUTSIDE = 0.025
"""Share of repetitions in which the truth may lie on either side of the interval."""


class Estimate(Value):
    """A mean with its 95 % interval, over `n` rows."""

    value: float
    low: float
    high: float
    n: int

    def __init__(self, value: float, low: float, high: float, n: int) -> None:
        super().__init__(value=value, low=low, high=high, n=n)

    @property
    def is_share(self) -> bool:
        """Whether it is a share, or a difference of shares, by its bounds: shown in percent."""
        return self.low >= -1 and self.high <= 1

    def __str__(self) -> str:
        """In percent for a share, else the number as it is."""
        factor, form = (100, ".1f") if self.is_share else (1, ".4g")
        value, low, high = (format(factor * number, form) for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def estimate(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """The mean of `values` `[n]` with a t interval from cluster-robust errors. Liang & Zeger 1986.

    `clusters[i]` says what value i belongs to; without them each value is a cluster. `bounds` are the least and the
    largest possible value. With them it is a score interval for as many rows as are worth one each (Wilson 1927; Korn
    & Graubard 1998 for clusters), which keeps its level near the bounds too; where all clusters agree, 20 wrong answers
    of 20 are not a certain zero (Clopper & Pearson 1934). One cluster alone says nothing about others: the interval is
    as wide as the bounds. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values to estimate from")
    given = range(len(values)) if clusters is None else clusters
    if len(given) != len(values):
        raise ValueError(f"{len(given)} clusters for {len(values)} values")
    numbers = np.asarray(values, dtype=float)
    names = {name: i for i, name in enumerate(dict.fromkeys(given))}
    mean, count = float(numbers.mean()), len(names)
    least, most = bounds or (-np.inf, np.inf)
    if count == 1:
        return Estimate(mean, float(least), float(most), len(values))
    astray = np.bincount([names[name] for name in given], numbers - mean)  # each cluster's sum of deviations
    error = float(np.sqrt(count / (count - 1) * np.square(astray).sum()) / len(values))
    if error > 1e-12 * max(1.0, abs(mean)):
        t = float(stdtrit(count - 1, 1 - OUTSIDE))
        low, high = (mean - t * error, mean + t * error) if bounds is None else _score(mean, t * error, least, most)
        return Estimate(mean, low, high, len(values))
    if bounds is None:
        return Estimate(mean, mean, mean, len(values))
    unseen = 1 - OUTSIDE ** (1 / count)  # the largest share of other clusters that may well not have been drawn
    return Estimate(mean, mean - unseen * (mean - least), mean + unseen * (most - mean), len(values))


def _score(mean: float, half: float, least: float, most: float) -> tuple[float, float]:
    """All means between the bounds from which `mean` is at most `half` away, where errors shrink towards a bound as
    those of a share do."""
    width = most - least
    share = (mean - least) / width
    if not 0 < share < 1:
        return mean - half, mean + half
    odd = (half / width) ** 2 / (share * (1 - share))  # t^2 over the number of rows that are worth one each
    middle = (share + odd / 2) / (1 + odd)
    off = float(np.sqrt(odd * share * (1 - share) + odd**2 / 4)) / (1 + odd)
    return least + width * max(0.0, middle - off), least + width * min(1.0, middle + off)


def pooled(
    counts: Sequence[Sequence[float]],
    total: Callable[[Sequence[float]], float],
    clusters: Sequence[Hashable] | None = None,
) -> Estimate:
    """`total` of the sums of `counts` `[n, k]`, such as a corpus' perplexity, with a t interval from the jackknife
    over clusters. Efron & Stein 1981.

    With one cluster, and where one of them alone has something to count, the interval is as wide as numbers go.
    Raises ValueError for no counts.
    """
    if not counts:
        raise ValueError("no counts to estimate from")
    numbers = np.asarray(counts, dtype=float)
    names = {name: i for i, name in enumerate(dict.fromkeys(range(len(counts)) if clusters is None else clusters))}
    places = np.array([names[name] for name in (range(len(counts)) if clusters is None else clusters)])
    sums = np.zeros((len(names), numbers.shape[1]))
    np.add.at(sums, places, numbers)
    whole = sums.sum(axis=0)
    value, count = float(total(whole)), len(names)
    if count == 1:
        return Estimate(value, float("-inf"), float("inf"), len(counts))
    without = np.array([total(whole - own) for own in sums])
    if not np.isfinite(without).all():
        return Estimate(value, float("-inf"), float("inf"), len(counts))
    error = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    half = float(stdtrit(count - 1, 1 - OUTSIDE)) * error
    return Estimate(value, value - half, value + half, len(counts))
