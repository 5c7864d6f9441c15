"""Draws that can be repeated, without touching the random state of whoever calls."""

from __future__ import annotations

import random

import numpy as np
import torch


class seeded:
    """Draws from a seed inside, and leaves the process's own random state as it was. No seed: does nothing."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        if self.seed is not None:
            self.before = torch.get_rng_state(), random.getstate(), np.random.get_state()
            self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
            torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        if self.seed is not None:
            numbers, plain, arrays = self.before  # transformers seeds all three when it trains
            torch.set_rng_state(numbers)
            random.setstate(plain)
            np.random.set_state(arrays)
            if self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
