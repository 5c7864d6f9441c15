"""What validation rows give: the mean loss over all labels, and whatever else is to be known of them.

transformers would gather the loss of each batch, of which not all processes have as many, and weigh the last one by its
rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from accelerate.utils import gather_object

from condition.training.objective import Objective
from condition.training.pieces import Pieces
from condition.training.processes import summed
from condition.training.watched import Watched, means


@final
class Validation:
    """Adds up what batches give on this process."""

    def __init__(self, objective: Objective, pieces: Pieces, placed: Callable[[Any], Any]) -> None:
        """`placed` puts a batch where the network is."""
        self.objective, self.pieces, self.placed = objective, pieces, placed
        self.total, self.items, self.batches = 0.0, 0.0, 0
        self.parts: list[Any] = []

    def add(self, model: Any, inputs: dict[str, Any]) -> None:
        """Count a batch; `model` is the objective as an engine has wrapped it."""

        def work(batch: dict[str, Any]) -> tuple[float, list[Any]]:
            with torch.no_grad():
                pieces = [(model(**self.placed(p)), p["batch"].items) for p in self.pieces.of(batch)]
            total = float(sum(float(found["loss"]) * items for found, items in pieces))
            return total, [row for found, _ in pieces for row in found["parts"]]

        total, parts = self.pieces.run([inputs], work, lambda: None)
        self.total += total
        self.items += inputs["batch"].items
        self.parts += parts
        self.batches += 1

    @torch.no_grad()
    def go_along(self, inputs: dict[str, Any], batches: int) -> None:
        """Gather weights as often as a process that has so many batches: all take part in each forward pass."""
        counted, self.objective.watched = self.objective.watched, Watched()
        for _ in range(batches - self.batches):
            self.objective(**self.placed(inputs))
        self.objective.watched = counted

    def found(self, device: torch.device) -> dict[str, float]:
        """The mean loss, and means of what is watched. Every process has to ask."""
        total, items = summed(torch.tensor([self.total, self.items], dtype=torch.float64, device=device)).tolist()
        watched = means(self.objective.watched.take(training=False), device)
        whole = {} if self.objective.whole is None else self.objective.whole(gather_object(self.parts))
        return {"loss": total / items, **watched, **whole}
