"""Log-probabilities from hidden states, a chunk of positions at a time.

The vocabulary makes logits the largest tensor of a language model. Here they exist for one chunk only: for a frozen
head the gradient with respect to the hidden states is worked out in the forward pass, while the chunk is still there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from condition import onednn

CHUNK_ENTRIES = 7_500_000
"""Logits held at once: 30 MB in fp32. From 32 MB on glibc gives memory back and asks for it anew at each chunk."""
CAST = "_condition_cast"
"""Under this name a head carries its weight in another dtype."""


@contextmanager
def cast_once(head: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside, a frozen head's weight in `dtype` is kept beside it instead of being made in every step."""
    if type(head) is nn.Linear and not head.weight.requires_grad and head.weight.dtype != dtype:
        head.__dict__[CAST] = head.weight.data.to(dtype)
    try:
        yield
    finally:
        head.__dict__.pop(CAST, None)


@contextmanager
def uncast(head: nn.Module) -> Iterator[None]:
    """For a while inside `cast_once`, the head's own weight."""
    kept = head.__dict__.pop(CAST, None)
    try:
        yield
    finally:
        if kept is not None:
            head.__dict__[CAST] = kept


def head_logprobs(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target `[positions]`, fp32, from hidden states `[positions, width]`."""
    if type(head) is nn.Linear and not head.weight.requires_grad and (head.bias is None or not head.bias.requires_grad):
        # torch leaves apply untyped
        weight = head.__dict__.get(CAST, head.weight)
        values: Tensor = _FrozenHead.apply(hidden, weight, head.bias, targets)  # type: ignore[no-untyped-call]
        return values
    size = max(1, CHUNK_ENTRIES // int(getattr(head, "out_features", 50_000)))
    pieces = zip(hidden.split(size), targets.split(size), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(_through, head, h, t, use_reentrant=False) for h, t in pieces])
    return torch.cat([_through(head, h, t) for h, t in pieces])


def _through(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return gather_logprobs(head(hidden), targets)


def gather_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target `[positions]` under logits `[positions, vocabulary]`, in fp32 or wider."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)


def _by_onednn(weight: Tensor) -> bool:
    """In float32 alone: there a weight is multiplied as it lies."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and onednn.works(torch.float32)


class _FrozenHead(torch.autograd.Function):
    """d logp / d hidden = W[target] - softmax(logits) W, one chunk of logits at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        weight = weight.to(dtype)
        linear = onednn.linear if _by_onednn(weight) else nn.functional.linear
        size = max(1, CHUNK_ENTRIES // weight.shape[0])
        wanted = ctx.needs_input_grad[0]
        values, slopes = [], []
        for h, t in zip(hidden.split(size), targets.split(size), strict=True):
            with torch.autocast(device, enabled=False):
                logits = linear(h.to(dtype), weight, None if bias is None else bias.to(dtype))
                logits = logits if dtype == torch.float64 else logits.float()
                peak, chosen = logits.amax(-1, keepdim=True), logits.gather(-1, t[:, None])
                shares = logits.sub_(peak).exp_()  # in place: a second tensor of this size costs as much as the product
                total = shares.sum(-1, keepdim=True)
                values.append((chosen - peak - total.log())[:, 0])
                if wanted:
                    share = shares.div_(total).to(dtype)
                    slopes.append((weight.index_select(0, t) - linear(share, weight.t(), None)).to(hidden.dtype))
        if wanted:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grads[0][:, None].to(slope.dtype), None, None, None
