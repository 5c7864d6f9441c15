from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from condition.errors import DataError
from condition.evaluation.metrics import pass_at_k


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_share_of_all_draws_that_hold_a_right_one(n: int) -> None:
    for correct in range(n + 1):
        for k in range(1, n + 1):
            draws = list(combinations([i < correct for i in range(n)], k))
            assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_estimator_of_the_paper() -> None:
    """Figure 3 of Chen et al. 2021: 1 - prod(1 - k / arange(n - c + 1, n + 1))."""
    for n, c, k in ((200, 13, 100), (200, 1, 10), (50, 49, 2), (20, 0, 5)):
        paper = 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
        assert pass_at_k(n, c, k) == pytest.approx(float(paper))


@pytest.mark.parametrize(("n", "correct", "k"), [(3, 1, 4), (3, 1, 0), (0, 0, 1), (3, 4, 1), (3, -1, 1)])
def test_what_makes_no_sense(n: int, correct: int, k: int) -> None:
    with pytest.raises(DataError):
        pass_at_k(n, correct, k)
