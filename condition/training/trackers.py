"""Trackers, where transformers leaves something open behind a training.

with own_run(("wandb",)):      # a run of Weights & Biases that training opens in here ends with it
    engine.train()
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def own_run(report_to: Sequence[str]) -> Iterator[None]:
    """Ends the run of Weights & Biases that is opened in here, as failed where it raises; one open before goes on.

    transformers leaves it open, and the next training in the process would write into the same one.
    """
    wandb = sys.modules.get("wandb") if {"wandb", "all"} & set(report_to) else None  # its callback imports it
    if wandb is None or wandb.run is not None:
        yield
        return
    code = 1
    try:
        yield
        code = 0
    finally:
        if wandb.run is not None:
            wandb.finish(exit_code=code)
