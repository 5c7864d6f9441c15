"""The learning rate over the steps of a training.

[share_of_rate(step, steps=4, warmup=1, schedule="linear") for step in range(4)]    # [0.5, 1.0, 0.67, 0.33]
"""

from __future__ import annotations

import math

DECAY = 0.2
"""Share of the steps in which `stable-decay` falls."""


def share_of_rate(step: int, *, steps: int, warmup: int, schedule: str, lowest: float = 0.0) -> float:
    """The share of `Settings.learning_rate` at a step, counted from 0.

    It rises for `warmup` steps, of which the first has a rate already: at transformers' own it is 0, which spends a
    short run's only step on nothing. From the full rate on it stays or falls to `lowest`:

        linear          in a line
        cosine          along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983)
        inverse-sqrt    with one over the root of the steps (Vaswani et al. 2017, arXiv 1706.03762), never below lowest
        stable-decay    in a line, in the last fifth of the steps (Hu et al. 2024, arXiv 2404.06395)
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    if schedule == "constant":
        return 1.0
    if schedule == "inverse-sqrt":
        return max(lowest, math.sqrt(max(1, warmup) / (max(1, warmup) + step - warmup)))
    if schedule == "stable-decay":
        share = min(1.0, (1 - done) / DECAY)
    else:
        share = 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return lowest + (1 - lowest) * share
