"""Curves with one thing wrong each."""

from __future__ import annotations

import pytest

from condition.models.history import History
from condition.training.signs import hacking_signs

WELL = {
    "drift_better": 0.2,
    "prefers_longer": 0.6,
    "longer_is_better": 0.55,
    "entropy": 2.0,
    "kl": 0.1,
    "accuracy": 0.7,
    "eval_accuracy": 0.68,
}


def history(**last: float) -> History:
    return History([{"step": 1, **WELL}, *({"step": step, **WELL, **last} for step in range(2, 8))])


def test_a_healthy_training_shows_none() -> None:
    assert hacking_signs(history()) == []
    assert hacking_signs(History([{"step": 1, "loss": 0.5}])) == []


@pytest.mark.parametrize(
    "last",
    [{"drift_better": -0.09}, {"entropy": 1.5}, {"prefers_longer": 0.64}, {"kl": 0.4}, {"eval_accuracy": 0.62}],
    ids=str,
)
def test_what_is_no_sign_yet(last: dict[str, float]) -> None:
    assert hacking_signs(history(**last)) == []


def test_an_end_is_the_last_fifth_of_a_curve() -> None:
    """Not what lies before it, and not its last value alone."""
    curve = [*[-0.3] * 8, -0.05, -0.05]
    assert hacking_signs(History([{"step": i, "drift_better": v} for i, v in enumerate(curve)])) == []
    curve = [*[0.0] * 8, -0.4, 0.0]
    (sign,) = hacking_signs(History([{"step": i, "drift_better": v} for i, v in enumerate(curve)]))
    assert "has lost 0.2 nats" in sign


def test_the_end_of_a_short_curve_is_its_last_value() -> None:
    (sign,) = hacking_signs(History([{"step": i, "drift_better": v} for i, v in enumerate((0.0, 0.0, -0.3))]))
    assert "has lost 0.3 nats" in sign


def test_length_is_told_once() -> None:
    found = hacking_signs(history(prefers_longer=0.9, eval_prefers_longer=0.9, eval_longer_is_better=0.5))
    assert [sign for sign in found if "longer" in sign] == found
    assert len(found) == 1
    assert "held out" in found[0]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"drift_better": -0.3}, r"has lost 0.3 nats: both sides get unlikely"),
        ({"prefers_longer": 0.9}, r"preferred in 90% of pairs, and is better in 55%"),
        ({"eval_prefers_longer": 0.9, "eval_longer_is_better": 0.5}, r"90% of pairs held out"),
        ({"entropy": 0.7}, r"fell from 2 to 0.7 nats"),
        ({"kl": 0.8}, r"0.8 nats from the reference"),
        ({"kl": 0.55}, r"0.55 nats from the reference"),
        ({"eval_accuracy": 0.58}, r"70% of pairs are right in training, 58% of those held out"),
        ({"accuracy": 0.95}, r"95% of pairs are right in training, 68% of those held out"),
    ],
)
def test_signs(last: dict[str, float], said: str) -> None:
    (sign,) = hacking_signs(history(**last))
    assert said in sign
