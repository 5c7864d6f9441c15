"""Our schedule: transformers' own from the full rate on, and no step at rate 0 before."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from condition.training.schedule import share_of_rate


def shares(schedule: str, steps: int, warmup: int) -> list[float]:
    return [share_of_rate(step, steps=steps, warmup=warmup, schedule=schedule) for step in range(steps + 1)]


def test_by_hand() -> None:
    assert shares("constant", 4, 0) == [1, 1, 1, 1, 1]
    assert shares("constant", 4, 3) == [1 / 4, 1 / 2, 3 / 4, 1, 1]
    assert shares("linear", 4, 0) == [1, 3 / 4, 1 / 2, 1 / 4, 0]
    assert shares("linear", 5, 1) == [1 / 2, 1, 3 / 4, 1 / 2, 1 / 4, 0]
    assert shares("cosine", 4, 0) == pytest.approx([1, 0.5 + 0.5**1.5, 1 / 2, 0.5 - 0.5**1.5, 0])
    assert shares("linear", 1, 1) == [1 / 2, 1]
    assert share_of_rate(9, steps=4, warmup=0, schedule="linear") == 0
    assert shares("inverse-sqrt", 10, 4)[4:] == pytest.approx([(4 / (4 + i)) ** 0.5 for i in range(7)])
    assert shares("stable-decay", 10, 0) == pytest.approx([1] * 9 + [1 / 2, 0])


def test_the_lowest_rate() -> None:
    def last(schedule: str) -> float:
        return share_of_rate(10, steps=10, warmup=2, schedule=schedule, lowest=0.25)

    assert [last(name) for name in ("linear", "cosine", "stable-decay")] == pytest.approx([0.25] * 3)
    assert share_of_rate(6, steps=10, warmup=2, schedule="linear", lowest=0.5) == 0.75
    assert share_of_rate(1000, steps=1000, warmup=1, schedule="inverse-sqrt", lowest=0.1) == 0.1


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_from_the_full_rate_on_it_is_that_of_transformers(schedule: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    theirs = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=10)
    ours = shares(schedule, 10, 3)
    for step in range(10):
        if step >= 3:
            assert ours[step] == pytest.approx(theirs.get_last_lr()[0])
        else:
            assert 0 <= theirs.get_last_lr()[0] < ours[step] < 1
        optimizer.step()
        theirs.step()
