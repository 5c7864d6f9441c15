"""What is watched beside the loss, added up between two log lines, and a training that is stopped by it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback

from condition.training.processes import number_of_processes, summed

log = logging.getLogger("condition")

EQUAL = 1e-4
"""Differences between two candidates up to which neither is preferred: at the start there is nothing but rounding."""


def compared(difference: Tensor, better: Tensor, worse: Tensor) -> dict[str, Tensor]:
    """Curves of pairs, from what the better one is above the worse one `[pairs]` and their lengths in tokens.

    `accuracy` counts half where neither is preferred. `prefers_longer` beside `longer_is_better` says whether length is
    what is learned: of pairs of unlike lengths, the first of those too where one is preferred.
    """
    longer, preferred = (better - worse).sign(), torch.where(difference.abs() < EQUAL, 0.0, difference.sign())
    unlike = longer != 0
    return {
        "accuracy": (preferred + 1) / 2,
        "prefers_longer": (preferred == longer)[unlike & (preferred != 0)].double(),
        "longer_is_better": (longer > 0)[unlike].double(),
    }


@final
class Watched:
    """Means of what was measured since they were last taken, apart for training and validation."""

    def __init__(self) -> None:
        self._sums: dict[bool, dict[str, tuple[float, int]]] = {True: {}, False: {}}

    def add(self, values: Mapping[str, Tensor], *, training: bool) -> None:
        """Count the values of a batch."""
        sums = self._sums[training]
        for name, value in values.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + float(value.detach().float().sum()), count + value.numel()

    def take(self, *, training: bool) -> dict[str, tuple[float, int]]:
        """Sum and count of each, which begin anew."""
        taken, self._sums[training] = self._sums[training], {}
        return taken

    def so_far(self) -> dict[str, tuple[float, int]]:
        """Those of the training, which go on."""
        return dict(self._sums[True])

    def go_on(self, sums: Mapping[str, tuple[float, int]]) -> None:
        """Go on in the training from what was counted before."""
        self._sums[True] = {name: (total, count) for name, (total, count) in sums.items()}


def means(found: Mapping[str, tuple[float, int]], device: torch.device) -> dict[str, float]:
    """Means over all processes of sums and counts, of which a process without a batch has none."""
    return {name: total / n for name, (total, n) in totals(found, device).items() if n}


def totals(found: Mapping[str, tuple[float, int]], device: torch.device) -> dict[str, tuple[float, int]]:
    """Sums and counts over all processes. Every process has to ask."""
    names = list(found) if number_of_processes() == 1 else sorted(set(gather_object(list(found))))
    if not names:
        return {}
    added = torch.tensor([found.get(name, (0.0, 0)) for name in names], dtype=torch.float64, device=device)
    return {name: (total, int(n)) for name, (total, n) in zip(names, summed(added).tolist(), strict=True)}


class DriftStop(TrainerCallback):
    """Ends a training once the better candidates have lost more than `limit` nats a token against the reference.

    A preference loss is content with both candidates getting less likely, as long as the worse one does so faster.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        drift = (logs or {}).get("drift_better")
        if drift is not None and drift < -self.limit:
            log.warning(
                "stopped behind step %s: a token of the better candidates has lost %.3g nats (stop_drift=%s)",
                state.global_step,
                -drift,
                self.limit,
            )
            control.should_training_stop = True
