"""Seeds that leave the caller's draws alone."""

from __future__ import annotations

import random

import numpy as np
import torch
from transformers import set_seed

from condition.models.seeded import seeded


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_callers_draws_go_on_as_if_nothing_had_been() -> None:
    set_seed(7)
    expected = [draws(), draws()]
    set_seed(7)
    found = [draws()]
    with seeded(3):
        set_seed(5)  # as transformers does when it trains
        draws()
    assert [*found, draws()] == expected


def test_a_seed_gives_the_same_draw_again_and_none_is_free() -> None:
    with seeded(3):
        once = float(torch.rand(()))
    with seeded(3):
        assert float(torch.rand(())) == once
    with seeded(None):
        assert float(torch.rand(())) != once
