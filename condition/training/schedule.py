"""The learning rate over the steps of a training.

[share_of_rate(step, steps=4, warmup=1, schedule="linear") for step in range(4)]    # [0.5, 1.0, 0.67, 0.33]
"""

from __future__ import annotations

import math


def share_of_rate(step: int, *, steps: int, warmup: int, schedule: str) -> float:
    """The share of `Settings.learning_rate` at a step, counted from 0.

    It rises for `warmup` steps, of which the first has a rate already: at transformers' own it is 0, which spends a
    short run's only step on nothing. From the full rate on it stays, falls in a line to 0, or falls along half a
    cosine (Loshchilov and Hutter 2017, arXiv 1608.03983), as theirs does.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
