"""Whether two subjects differ on the same rows, and how sure that is: p-values, and their correction for several rows.

found = compared(scores_a, scores_b, clusters=passages)
print(found.difference, found.p, found.test)          # -3.1 [-5.0, -1.2] 0.002 paired bootstrap
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]  # scipy has no types
from scipy.stats import binom  # type: ignore[import-untyped]  # scipy has no types

from condition.evaluation.statistics import OUTSIDE, Estimate, estimate, pooled
from condition.types import Value

DRAWS = 10_000
"""Bootstrap samples; the smallest p-value is 1 / (DRAWS + 1)."""
_AT_ONCE = 1 << 22  # drawn indices in memory


class Paired(Value):
    """The mean of `second - first` over the same rows, and how likely so much would be if there were no difference."""

    difference: Estimate
    p: float
    test: str
    """`McNemar` for right and wrong on rows that stand alone, `jackknife` for measures of all rows together, else
    `paired bootstrap`."""


def compared(first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Paired:
    """The paired difference `second - first` with its 95 % interval and two-sided p-value.

    Raises ValueError for no values, different numbers of them, and values that are not finite.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values beside {len(second)}: both have to be of the same rows")
    ones, twos = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not np.isfinite([ones, twos]).all():
        raise ValueError("values that are no finite numbers can't be compared")
    differences = (twos - ones).tolist()
    within = bool(((ones >= 0) & (ones <= 1) & (twos >= 0) & (twos <= 1)).all())
    difference = estimate(differences, clusters, bounds=(-1.0, 1.0) if within else None)
    alone = clusters is None or len(set(clusters)) == len(clusters)
    if alone and set(ones.tolist()) | set(twos.tolist()) <= {0.0, 1.0}:
        return Paired(difference=difference, p=mcnemar(differences.count(1.0), differences.count(-1.0)), test="McNemar")
    return Paired(difference=difference, p=bootstrap(differences, clusters), test="paired bootstrap")


def compared_pooled(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    total: Callable[[Sequence[float]], float],
    clusters: Sequence[Hashable] | None = None,
) -> Paired:
    """The same for a measure of all rows together, from what each row adds `[n, k]`: by the jackknife over clusters."""
    width = len(first[0])
    both = [(*one, *other) for one, other in zip(first, second, strict=True)]
    difference = pooled(both, lambda sums: total(sums[width:]) - total(sums[:width]), clusters)
    count = len(set(range(len(both)) if clusters is None else clusters))
    half = difference.high - difference.value
    if not np.isfinite(half) or difference.value == 0:
        return Paired(difference=difference, p=1.0, test="jackknife")
    t = np.inf if half == 0 else abs(difference.value) / half * stdtrit(count - 1, 1 - OUTSIDE)
    return Paired(difference=difference, p=float(2 * stdtr(count - 1, -t)), test="jackknife")


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided mid-p of McNemar's exact test: how even the rows are split that only one of two gets right.

    The mid-p keeps the level closer than the exact test, which is far too careful with few such rows. McNemar 1947;
    Fagerland, Lydersen & Laake 2013, doi 10.1186/1471-2288-13-91.
    """
    few, both = min(gained, lost), gained + lost
    if both == 0 or gained == lost:
        return 1.0
    return float(2 * binom.cdf(few, both, 0.5) - binom.pmf(few, both, 0.5))


def bootstrap(
    differences: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Two-sided p-value of a zero mean of paired differences `[n]`: whole clusters are drawn again, and the mean over
    its own standard error is compared. Efron & Tibshirani 1993, chapter 16; Koehn 2004 for language.

    Without its standard error, a mean of few clusters would look surer than it is. One cluster says nothing: 1.
    """
    given = range(len(differences)) if clusters is None else clusters
    names = {name: i for i, name in enumerate(dict.fromkeys(given))}
    places = [names[name] for name in given]
    sums = np.bincount(places, np.asarray(differences, dtype=float)).astype(np.float64)  # [clusters]
    sizes = np.bincount(places).astype(np.float64)
    count = len(sums)
    if count == 1 or not np.any(sums):
        return 1.0
    (mean,), (error,) = _means(sums[None], sizes[None])
    if error < 1e-12 * abs(mean):  # all alike: how often would all of them fall on one side by chance?
        return float(2 * 0.5**count)
    numbers = np.random.default_rng(seed)
    beyond = 0
    for start in range(0, draws, max(1, _AT_ONCE // count)):
        size = min(max(1, _AT_ONCE // count), draws - start)
        drawn = numbers.integers(0, count, (size, count))
        means, errors = _means(sums[drawn], sizes[drawn])
        off = np.abs(means - mean)
        # A draw of equal clusters has no error of its own, and lies infinitely many of them away.
        beyond += int(np.count_nonzero(off * error >= abs(mean) * errors * (1 - 1e-9)))
    return (beyond + 1) / (draws + 1)


def _means(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means `[draws]` over the rows of clusters `[draws, clusters]`, and their cluster-robust standard errors."""
    rows = sizes.sum(axis=1)
    means = sums.sum(axis=1) / rows
    astray = sums - means[:, None] * sizes
    count = sums.shape[1]
    return means, np.sqrt(count / (count - 1) * np.square(astray).sum(axis=1)) / rows


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values for several comparisons: one below 0.05 is wrong in at most 5 % of all tables. Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found = [0.0] * len(p_values)
    least = 0.0
    for place, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[i]))
        found[i] = least
    return found
