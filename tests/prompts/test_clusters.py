from __future__ import annotations

import numpy as np
import pytest

from condition.errors import PromptError
from condition.prompts.clusters import clusters


def test_groups_that_lie_apart_are_found_whatever_the_seed() -> None:
    chance = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    which = np.array([0] * 5 + [1] * 8 + [2] * 3)
    rows = centres[which] + chance.normal(scale=0.1, size=(16, 2)).astype(np.float32)
    for seed in range(10):
        found = clusters(rows, 3, seed)
        assert [sorted(group) for group in found] == [list(range(5, 13)), list(range(5)), [13, 14, 15]]


def test_the_nearest_to_the_centre_comes_first() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [3.0], [9.0]], np.float32)
    assert clusters(rows, 1) == [[3, 2, 1, 0, 4]]  # the centre is 3: distances 3, 2, 1, 0, 6


def test_fewer_where_fewer_differ() -> None:
    rows = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]], np.float32)
    assert clusters(rows, 4) == [[0, 1, 2, 3], [4]]
    assert clusters(np.zeros((0, 3), np.float32), 2) == []
    chance = np.random.default_rng(0)
    for _ in range(20):  # equal rows are equal, whatever is rounded on the way
        different = chance.normal(size=(3, 384)).astype(np.float32)
        assert sorted(map(len, clusters(np.repeat(different, 5, axis=0), 8))) == [5, 5, 5]
    with pytest.raises(PromptError, match="k=0"):
        clusters(rows, 0)
