"""What is minimised: a module around a network, so that every engine that wraps modules can train it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.errors import ModelError
from condition.prefix_sharing.logprobs import logprobs
from condition.training.rows import Batch

Loss = Callable[[Tensor], Tensor]


@final
class Objective(nn.Module):
    """Mean loss over the tokens of a step; `shared` computes common beginnings of a batch's rows once."""

    accepts_loss_kwargs = True  # read by transformers: the loss is divided by the tokens of the whole step here

    def __init__(self, network: PreTrainedModel, loss: Loss, *, shared: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.shared = shared
        self.dtype = dtype

    def train(self, mode: bool = True) -> Objective:
        """As torch's. The engine calls it at each step, and to walk through a network's modules takes its time."""
        return self if self.training == mode == self.network.training else super().train(mode)

    def forward(self, batch: Batch, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> dict[str, Any]:
        """The loss of a batch. Raises ModelError where it is not a number."""
        device = self.network.device
        mixed = torch.autocast(device.type, self.dtype) if self.dtype != torch.float32 else nullcontext()
        with mixed:
            values = logprobs(
                self.network, [row.ids for row in batch.rows], [row.start for row in batch.rows], shared=self.shared
            )
        loss = self.loss(torch.cat(values)) / (labels.numel() if num_items_in_batch is None else num_items_in_batch)
        if not bool(torch.isfinite(loss)):
            raise ModelError(
                f"the loss became {float(loss.detach())}: the learning rate is too high, or the base's weights are "
                f"broken. "
                f"Lower Settings.learning_rate; checkpoints written before are intact"
            )
        return {"loss": loss}
