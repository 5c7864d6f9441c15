"""Attention over small blocks by plain matrix products, with the backward pass by hand.

For blocks of some hundred tokens the CPU's fused kernel is the slow way: on two cores with bf16 instructions a block of
49 queries and 225 keys takes a quarter of its time here, in fp32 two thirds. Heads that share keys and values lie side
by side in one product, so nothing is repeated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LARGEST = 4_000_000
"""Scores in one call above which the fused kernel, which never holds them all, is the better choice."""


def products_pay(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether blocks `[blocks, heads, tokens, size]` are small enough, and on the CPU."""
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return query.device.type == "cpu" and dropout == 0.0 and scores <= LARGEST


def product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Query `[blocks, heads, queries, size]`, key and value `[blocks, shared heads, keys, size]` to the query's shape.

    `mask` is true where seen, `[blocks, 1, queries, keys]`; none is causal.
    """
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()[None, None]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    bias = torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, float("-inf"))[:, :, None]
    # torch leaves apply untyped
    output: Tensor = _Products.apply(query.to(dtype), key.to(dtype), value.to(dtype), bias, scaling)  # type: ignore[no-untyped-call]
    return output


class _Products(torch.autograd.Function):
    """`softmax(q k^T + bias) v`."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float) -> Tensor:
        blocks, heads, tokens, size = query.shape
        shared = key.shape[1]
        q = (query * scaling).reshape(blocks, shared, -1, size)
        scores = torch.matmul(q, key.transpose(-1, -2)).view(blocks, shared, heads // shared, tokens, -1)
        weights = torch.softmax(scores.add_(bias), -1).view(blocks, shared, q.shape[2], -1)
        ctx.save_for_backward(q, key, value, weights)
        ctx.scaling = scaling
        return torch.matmul(weights, value).view(query.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, key, value, weights = ctx.saved_tensors
        grad = grads[0].reshape(q.shape)
        slope = torch.ops.aten._softmax_backward_data(
            torch.matmul(grad, value.transpose(-1, -2)), weights, -1, weights.dtype
        )
        grad_query = torch.matmul(slope, key).mul_(ctx.scaling).view(grads[0].shape)
        grad_key = torch.matmul(slope.transpose(-1, -2), q)
        return grad_query, grad_key, torch.matmul(weights.transpose(-1, -2), grad), None, None
