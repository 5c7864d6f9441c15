"""Losses as pure functions of log-probabilities."""

from __future__ import annotations

from torch import Tensor


def sft_loss(logprobs: Tensor) -> Tensor:
    """Negative log-likelihood of the trained tokens `[tokens]`, summed; divide by the tokens of the whole step."""
    return -logprobs.sum()
