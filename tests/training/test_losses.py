"""Losses by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from condition.training.losses import kto_loss, pair_loss, pro_loss, reward_pair_loss, reward_ranking_loss, sft_loss

SIGMOID = 1 / (1 + math.exp(-0.6))  # beta 0.2, difference 3


def test_sft_is_the_negative_sum() -> None:
    logprobs = torch.tensor([-1.0, -2.5, -0.5], requires_grad=True)
    loss = sft_loss(logprobs)
    assert float(loss.detach()) == 4.0
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("sigmoid", {}, -math.log(SIGMOID)),
        ("sigmoid", {"margin": 0.6}, math.log(2)),
        ("hinge", {}, 0.4),
        ("hinge", {"margin": 0.5}, 0.9),
        ("conservative", {"margin": 0.6, "smoothing": 0.1}, math.log(2)),
        ("robust", {"margin": 0.6, "smoothing": 0.1}, math.log(2)),
        ("ipo", {}, (3 - 2.5) ** 2),
        ("conservative", {"smoothing": 0.1}, -0.9 * math.log(SIGMOID) - 0.1 * math.log(1 - SIGMOID)),
        ("robust", {"smoothing": 0.1}, (-0.9 * math.log(SIGMOID) + 0.1 * math.log(1 - SIGMOID)) / 0.8),
    ],
)
def test_pairs(kind: Any, options: dict[str, float], expected: float) -> None:
    found = pair_loss(kind, torch.tensor([3.0], dtype=torch.float64), beta=0.2, **options)
    assert found.tolist() == pytest.approx([expected])


def test_robust_is_unbiased() -> None:
    """Where a share e of labels is wrong, its mean is the sigmoid loss of the right labels."""
    d, e = torch.tensor([3.0, -1.0], dtype=torch.float64), 0.2
    noisy = (1 - e) * pair_loss("robust", d, beta=0.2, smoothing=e) + e * pair_loss("robust", -d, beta=0.2, smoothing=e)
    torch.testing.assert_close(noisy, pair_loss("sigmoid", d, beta=0.2))


def test_pro_by_hand() -> None:
    """Equations 4 and 7 of the paper: each candidate against those behind it."""
    scores = torch.tensor([-1.0, -2.0, -1.5], dtype=torch.float64)
    e = [math.exp(s) for s in scores.tolist()]
    expected = -math.log(e[0] / sum(e)) - math.log(e[1] / (e[1] + e[2]))
    assert float(pro_loss(scores)) == pytest.approx(expected)


def test_pro_weighted_by_grades_by_hand() -> None:
    """T_ki = 1 / (g_k - g_i), T_kk = min over i: here 1/3, 1/3 and 1/1 for k = 0; 1/2 for k = 1."""
    scores, grades = torch.tensor([-1.0, -2.0, -1.5], dtype=torch.float64), torch.tensor([4.0, 3.0, 1.0])
    first = math.exp(-1.0 * 3), math.exp(-2.0 * 1), math.exp(-1.5 * 3)
    second = math.exp(-2.0 * 2), math.exp(-1.5 * 2)
    expected = -math.log(first[0] / sum(first)) - math.log(second[0] / sum(second))
    assert float(pro_loss(scores, grades, weighted=True)) == pytest.approx(expected)


def test_ties_are_not_compared() -> None:
    scores = torch.tensor([-1.0, -2.0, -1.5], dtype=torch.float64)
    e = [math.exp(s) for s in scores.tolist()]
    expected = -math.log(e[0] / (e[0] + e[2])) - math.log(e[1] / (e[1] + e[2]))
    assert float(pro_loss(scores, torch.tensor([2.0, 2.0, 1.0]))) == pytest.approx(expected)
    assert float(pro_loss(scores, torch.ones(3), weighted=True)) == 0


def test_thumbs_by_hand() -> None:
    ratios, good = torch.tensor([1.0, 1.0], dtype=torch.float64), torch.tensor([True, False])
    found = kto_loss(ratios, good, torch.tensor(0.5), beta=0.4, good_weight=2.0, bad_weight=3.0)
    up = 1 / (1 + math.exp(-0.4 * 0.5))
    assert found.tolist() == pytest.approx([2 * (1 - up), 3 * up])


def test_rewards_by_hand() -> None:
    better, worse = torch.tensor([2.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    apart = -math.log(1 / (1 + math.exp(-1)))
    assert reward_pair_loss(better, worse).tolist() == pytest.approx([apart])
    assert reward_pair_loss(better, worse, 1.0).tolist() == pytest.approx([math.log(2)])
    assert reward_pair_loss(better, worse, centre=0.1).tolist() == pytest.approx([apart + 0.9])
    both = torch.cat([better, worse])
    assert float(reward_ranking_loss(both, centre=0.1)) == pytest.approx(apart + 0.9)
    three = torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64)
    assert float(reward_ranking_loss(three)) == pytest.approx(math.log(3) + math.log(2))
    assert float(reward_ranking_loss(three, torch.tensor([1.0, 0.0, 0.0]))) == pytest.approx(math.log(3))
