"""What is minimised: a module around a network, so that every engine that wraps modules can train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.errors import ModelError
from condition.training.exploding import Surprise
from condition.training.rows import Batch
from condition.training.watched import Watched


class Measured(NamedTuple):
    """What a batch gave."""

    loss: Tensor
    """Summed over what the loss is a mean of: the batch's labels."""
    watched: Mapping[str, Tensor] = {}
    """Values of what is watched beside it; their mean is logged."""
    surprise: Surprise | None = None
    """By which it is seen that a training has exploded; by nothing but its weights where there is none."""
    parts: Sequence[Sequence[float]] = ()
    """`[rows][numbers]`, of validation rows, for a loss that is more than a mean over them; see `Whole`."""


Measure = Callable[[PreTrainedModel, Any, bool], Measured]
"""A network, the rows of a batch, and whether common beginnings may be computed once."""
BeforeStep = Callable[[PreTrainedModel, Sequence[Any], bool], None]
"""A network, the rows of each batch of a step, and whether common beginnings may be computed once."""
Whole = Callable[[Sequence[Sequence[float]]], Mapping[str, float]]
"""The `parts` of all validation rows, to the `loss` and whatever else depends on how rows are divided into batches."""


@final
class Objective(nn.Module):
    """Mean loss over the labels of a step; `shared` computes common beginnings of a batch's rows once."""

    accepts_loss_kwargs = True  # read by transformers: the loss is divided by the labels of the whole step here

    def __init__(
        self,
        network: PreTrainedModel,
        measure: Measure,
        *,
        shared: bool,
        dtype: torch.dtype,
        before_step: BeforeStep | None = None,
        whole: Whole | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.measure = measure
        self.shared = shared
        self.dtype = dtype
        self.watched = Watched()
        self.surprise = Watched()
        self.whole = whole
        self._before_step = before_step

    def train(self, mode: bool = True) -> Objective:
        """As torch's. The engine calls it at each step, and to walk through a network's modules takes its time."""
        return self if self.training == mode == self.network.training else super().train(mode)

    def before_step(self, batches: Sequence[Batch]) -> None:
        """Told all batches of a step, for what is a mean over all of them."""
        if self._before_step is not None:
            with self._mixed():
                self._before_step(self.network, [batch.rows for batch in batches], self.shared)

    def _mixed(self) -> AbstractContextManager[object]:
        device = self.network.device.type
        return torch.autocast(device, self.dtype) if self.dtype != torch.float32 else nullcontext()

    def forward(self, batch: Batch, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> dict[str, Any]:
        """The loss of a batch. Raises ModelError where it is not a number."""
        with self._mixed():
            measured = self.measure(self.network, batch.rows, self.shared)
        self.watched.add(measured.watched, training=self.training)
        if self.training and measured.surprise is not None:
            nats, absurd = measured.surprise
            self.surprise.add({"share": nats / absurd}, training=True)
        loss = measured.loss / (batch.items if num_items_in_batch is None else num_items_in_batch)
        if not bool(torch.isfinite(loss)):
            raise ModelError(
                f"the loss became {float(loss.detach())}: the learning rate is too high, or the base's weights are "
                f"broken. "
                f"Lower Settings.learning_rate; checkpoints written before are intact"
            )
        return {"loss": loss, "parts": measured.parts}
