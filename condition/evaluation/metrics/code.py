"""How often one of k programs is right."""

from __future__ import annotations

from math import comb

from condition.errors import DataError


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that one of `k` samples is right, unbiased, from `n` samples of which `correct` are.

    1 - C(n - c, k) / C(n, k). Chen et al. 2021, arXiv 2107.03374. Raises DataError where k samples were not drawn.
    """
    if not 1 <= k <= n:
        raise DataError(f"pass@{k} needs at least {k} samples a problem, and k at least 1; there are {n}")
    if not 0 <= correct <= n:
        raise DataError(f"{correct} of {n} samples can't be right")
    return 1.0 - comb(n - correct, k) / comb(n, k)
