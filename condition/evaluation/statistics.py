"""Intervals for means, by resampling whole clusters: questions on one passage are not independent."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from condition.types import Value

RESAMPLES = 2000
DRAWN_AT_ONCE = 1_000_000


class Estimate(Value):
    """A mean with its 95 % interval, over `n` rows."""

    value: float
    low: float
    high: float
    n: int

    def __init__(self, value: float, low: float, high: float, n: int) -> None:
        super().__init__(value=value, low=low, high=high, n=n)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> Estimate:
    """The mean of `values` `[n]` with a percentile bootstrap interval. Efron 1979; clusters: Field & Welsh 2007.

    `clusters[i]` says what value i belongs to; without them each value is a cluster. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values to estimate from")
    given = range(len(values)) if clusters is None else clusters
    if len(given) != len(values):
        raise ValueError(f"{len(given)} clusters for {len(values)} values")
    numbers = np.asarray(values, dtype=float)
    names = {name: i for i, name in enumerate(dict.fromkeys(given))}
    owners = np.asarray([names[name] for name in given])
    sums = np.bincount(owners, numbers)
    sizes = np.bincount(owners)
    numbers_of = np.random.default_rng(seed)
    means: list[float] = []
    while len(means) < RESAMPLES:  # some at a time: all at once would take gigabytes for ten thousand rows
        some = min(RESAMPLES - len(means), max(1, DRAWN_AT_ONCE // len(sums)))
        draws = numbers_of.integers(0, len(sums), (some, len(sums)))
        means += (sums[draws].sum(1) / sizes[draws].sum(1)).tolist()
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(numbers.mean()), float(low), float(high), len(values))
