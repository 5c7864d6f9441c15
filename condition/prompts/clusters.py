"""Vectors into groups, by k-means.

    clusters(vectors(encoder(), questions), 4)      # [[17, 3, 9, …], …]: places, the nearest to each centre first

Lloyd 1982; the first centres by k-means++ (Arthur & Vassilvitskii 2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from condition.errors import PromptError

Vectors = NDArray[np.float32]


def clusters(vectors: Vectors, k: int, seed: int = 0, *, rounds: int = 50) -> list[list[int]]:
    """At most `k` groups of the rows of `[rows, width]`, the largest first, each with the nearest to its centre first.

    Fewer where fewer rows differ. The same seed gives the same groups. Raises PromptError for k below 1.
    """
    if k < 1:
        raise PromptError(f"k={k}: give the number of clusters, 1 or more")
    if not len(vectors):
        return []
    centres = _first_centres(vectors, k, np.random.default_rng(seed))
    nearest = _distances(vectors, centres).argmin(axis=1)
    for _ in range(rounds):
        # A centre that lost all its rows stays where it is.
        centres = np.stack(
            [vectors[nearest == c].mean(axis=0) if (nearest == c).any() else centres[c] for c in range(len(centres))]
        )
        before, nearest = nearest, _distances(vectors, centres).argmin(axis=1)
        if (before == nearest).all():
            break
    distances = _distances(vectors, centres)
    groups = [
        sorted(np.flatnonzero(nearest == c).tolist(), key=lambda row, c=c: (distances[row, c], row))  # type: ignore[misc]
        for c in range(len(centres))
    ]
    return sorted((group for group in groups if group), key=lambda group: (-len(group), group[0]))


def _first_centres(vectors: Vectors, k: int, chance: np.random.Generator) -> Vectors:
    chosen = [int(chance.integers(len(vectors)))]
    while len(chosen) < min(k, len(vectors)):
        gaps = _distances(vectors, vectors[chosen]).min(axis=1)
        if not gaps.sum() > 0:
            break
        chosen.append(int(chance.choice(len(vectors), p=gaps / gaps.sum())))
    return vectors[chosen]


def _distances(vectors: Vectors, centres: Vectors) -> NDArray[np.float64]:
    """Squared distances `[rows, centres]`."""
    rows, means = vectors.astype(float), centres.astype(float)
    squares = (rows**2).sum(axis=1)[:, None] - 2 * rows @ means.T + (means**2).sum(axis=1)
    found: NDArray[np.float64] = np.where(squares < 1e-9, 0.0, squares)
    return found
