"""Attention of many branches to the header that all of them see: one call for all, merged with their own part.

    header ┬ question 1      all queries meet the header's keys in one unpadded product, and their own keys in blocks;
           ├ question 2      the two softmaxes become one by their log-sum-exp. Gathering the header's keys for each
           └ question 3      question anew takes twice the time (24 questions behind 500 tokens, fp32).

Only without gradients and on the CPU, whose kernel tells its log-sum-exp. (Juravsky et al. 2024, Hydragen, 2402.05099.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condition.prefix_sharing.layout import Block, common_prefix

WORTH_DIVIDING = 2048
"""Keys of a header, counted once a block, from which on attending to it once is faster."""


@dataclass(frozen=True)
class Divided:
    """Where the keys of blocks lie that begin with the same header."""

    header: Tensor
    """`[header]`: places in the row, or before it."""
    keys: Tensor
    """`[blocks * longest own keys]`: those behind the header."""
    mask: Tensor
    """`[blocks, 1, longest query, longest own keys]`, true where seen."""


def divided(blocks: Sequence[Block], keys: Tensor, mask: Tensor) -> Divided | None:
    """The header of blocks whose padded keys are `[blocks, keys]` under a mask; None where it would not pay."""
    length = _header(blocks)
    if len(blocks) * length < WORTH_DIVIDING or len(blocks) < 2:
        return None
    own = mask[..., length:].clone()
    # A padded query that sees nothing would be NaN, and a real one always sees itself.
    own[..., 0] |= ~own.any(-1)
    return Divided(keys[0, :length], keys[:, length:].flatten(), own)


def _header(blocks: Sequence[Block]) -> int:
    """How many keys all blocks begin with, before those of their own queries: the path above them, all of it seen."""
    return min(min(common_prefix(blocks[0].keys, b.keys), len(b.keys) - len(b.queries)) for b in blocks)


def can_divide(query: Tensor, value: Tensor, dropout: float) -> bool:
    """Whether the kernel that tells its log-sum-exp takes these: on the CPU, heads of one size, no gradient."""
    return (
        query.device.type == "cpu"
        and dropout == 0.0
        and query.shape[-1] == value.shape[-1]
        and not torch.is_grad_enabled()
    )


def divided_attention(
    q: Tensor, k: Tensor, v: Tensor, queries: Tensor, parts: Divided, scaling: float | None
) -> Tensor:
    """q `[tokens, heads, size]`, k and v `[keys, shared heads, size]` to `[len(queries), heads, size]`."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else q.dtype
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    blocks, repeat = len(parts.mask), q.shape[1] // k.shape[1]
    asked = q.index_select(0, queries)
    key, value = (x[parts.header].transpose(0, 1).repeat_interleave(repeat, 0)[None] for x in (k, v))
    far, far_sum = _kernel(asked.transpose(0, 1)[None], key, value, None, scaling)
    key, value = (
        x.index_select(0, parts.keys).view(blocks, -1, *x.shape[1:]).transpose(1, 2).repeat_interleave(repeat, 1)
        for x in (k, v)
    )
    near, near_sum = _kernel(asked.view(blocks, -1, *q.shape[1:]).transpose(1, 2), key, value, parts.mask, scaling)
    share = torch.sigmoid(far_sum - near_sum).to(dtype).unsqueeze(-1)
    return torch.lerp(near, far, share)


def _kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """`[rows, heads, tokens, size]` to outputs `[rows * tokens, heads, size]` and sums `[rows * tokens, heads]`."""
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
    output, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, False, attn_mask=bias, scale=scaling
    )
    return output.transpose(1, 2).flatten(0, 1), sums.transpose(1, 2).flatten(0, 1)
