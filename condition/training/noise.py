"""NEFTune: noise on the embeddings of training rows. Jain et al. 2023, arXiv 2310.05914.

Uniform between -a and a, a = alpha / sqrt(tokens of a row x width): the longer the row, the smaller the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@final
class Noise:
    """Noise of a strength; `tokens` is the mean length of the rows that go through the network."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.tokens = 1.0

    def __call__(self, module: nn.Module, given: Any, output: Tensor) -> Tensor:
        """A forward hook of the embedding. Rows lie end to end there, so they share one length."""
        if not module.training:
            return output
        most = self.alpha / math.sqrt(max(1.0, self.tokens) * output.shape[-1])
        return output + torch.empty_like(output).uniform_(-most, most)


@contextmanager
def noisy(network: PreTrainedModel, alpha: float | None) -> Iterator[Noise | None]:
    """Noise on a network's embeddings while it is in training mode; none where alpha is not given."""
    if alpha is None:
        yield None
        return
    noise = Noise(alpha)
    hook = network.get_input_embeddings().register_forward_hook(noise)
    try:
        yield noise
    finally:
        hook.remove()
