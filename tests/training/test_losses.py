"""Losses by hand."""

from __future__ import annotations

import torch

from condition.training.losses import sft_loss


def test_sft_is_the_negative_sum() -> None:
    logprobs = torch.tensor([-1.0, -2.5, -0.5], requires_grad=True)
    loss = sft_loss(logprobs)
    assert float(loss.detach()) == 4.0
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0, -1.0, -1.0]
