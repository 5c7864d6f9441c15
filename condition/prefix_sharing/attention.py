"""Attention over a packed tree of prompts, in the one place that chooses how.

The network reads one unpadded row; only here are the blocks of `layout.pack` padded, attended and put back, so that
no linear layer ever sees padding. Plain causal rows go through the causal kernel, branches through a boolean mask.
Registered with transformers under `NAME`; without a `shared` keyword it is transformers' own `sdpa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from condition.prefix_sharing.header import Divided, can_divide, divided, divided_attention
from condition.prefix_sharing.layout import Block
from condition.prefix_sharing.learned import KeysAndValues, widened
from condition.prefix_sharing.products import product_attention, products_pay

NAME = "condition_shared"


@dataclass(frozen=True)
class Group:
    """Blocks that attend in one kernel call."""

    queries: Tensor
    """`[blocks * longest query]`: places in the row."""
    keys: Tensor
    """`[blocks * longest key]`"""
    mask: Tensor | None
    """`[blocks, 1, longest query, longest key]`, or none for plain causal rows."""
    blocks: int
    returns: Tensor | None
    """`[tokens]`: where each token lies among `keys`; only where every token is a key of just one block."""
    divided: Divided | None = None
    """The keys as a header that all blocks see and what each has of its own."""


@dataclass(frozen=True)
class Plan:
    """How the tokens of a packed row attend."""

    groups: tuple[Group, ...]
    order: Tensor
    """`[tokens]`: where each token's output lies in the concatenated outputs of the groups."""
    past: tuple[Tensor, Tensor] | None = None
    """Keys and values `[layers, shared heads, past, size]` of tokens before the row, which every token sees."""

    def to(self, device: torch.device) -> Plan:
        groups = (
            Group(
                g.queries.to(device),
                g.keys.to(device),
                None if g.mask is None else g.mask.to(device),
                g.blocks,
                None if g.returns is None else g.returns.to(device),
                None if g.divided is None else g.divided.to(device),
            )
            for g in self.groups
        )
        return Plan(tuple(groups), self.order.to(device), self.past)


class Steps(Protocol):
    """What the samples of a decoder attend to."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Query `[heads, rows, size]`, key and value `[shared heads, rows, size]` to `[rows, heads, size]`."""


def plan(blocks: Sequence[Block], tokens: int, past: tuple[Tensor, Tensor] | None = None) -> Plan:
    """Sort blocks into groups of like kind and size. Done once a batch, used by every layer."""
    if past is not None:
        blocks = [_behind(block, past[0].shape[2]) for block in blocks]
    plain = [b for b in blocks if b.mask is None]
    masked = sorted((b for b in blocks if b.mask is not None), key=lambda b: len(b.keys))
    order = torch.zeros(tokens, dtype=torch.long)
    groups: list[Group] = []
    offset = 0
    for members in [*_alike(plain), *_alike(masked)]:
        longest = max(len(b.queries) for b in members)
        for i, block in enumerate(members):
            order[block.queries] = torch.arange(len(block.queries)) + offset + i * longest
        groups.append(_group(members, tokens))
        offset += len(members) * longest
    return Plan(tuple(groups), order, past)


def _behind(block: Block, past: int) -> Block:
    """The block where `past` keys, which all its queries see, lie before those of the row."""
    own = torch.ones(len(block.queries), len(block.keys), dtype=torch.bool).tril() if block.mask is None else block.mask
    mask = torch.cat([torch.ones(len(own), past, dtype=torch.bool), own], 1)
    return Block(block.queries, [*range(past), *(place + past for place in block.keys)], mask)


def _alike(blocks: list[Block]) -> list[list[Block]]:
    """Runs of blocks whose padded area is at most twice their own."""
    runs: list[list[Block]] = []
    for block in sorted(blocks, key=lambda b: (len(b.keys), len(b.queries))):
        if runs and _area([*runs[-1], block]) <= 2 * sum(_area([b]) for b in [*runs[-1], block]):
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _area(blocks: list[Block]) -> int:
    return len(blocks) * max(len(b.queries) for b in blocks) * max(len(b.keys) for b in blocks)


def _group(blocks: list[Block], tokens: int) -> Group:
    longest_query, longest_key = max(len(b.queries) for b in blocks), max(len(b.keys) for b in blocks)
    queries = torch.zeros(len(blocks), longest_query, dtype=torch.long)
    keys = torch.zeros(len(blocks), longest_key, dtype=torch.long)
    for i, block in enumerate(blocks):
        queries[i, : len(block.queries)] = torch.tensor(block.queries)
        keys[i, : len(block.keys)] = torch.tensor(block.keys)
    mask = parts = None
    if blocks[0].mask is not None:
        mask = torch.zeros(len(blocks), 1, longest_query, longest_key, dtype=torch.bool)
        mask[..., 0] = True  # a padded query that sees nothing would be NaN
        for i, block in enumerate(blocks):
            assert block.mask is not None
            mask[i, 0, : len(block.queries), : len(block.keys)] = block.mask
        parts = divided(blocks, keys, mask)
    return Group(queries.flatten(), keys.flatten(), mask, len(blocks), _returns(blocks, tokens, longest_key), parts)


def _returns(blocks: list[Block], tokens: int, longest_key: int) -> Tensor | None:
    if sum(len(b.keys) for b in blocks) != tokens:
        return None
    returns = torch.full((tokens,), -1)
    for i, block in enumerate(blocks):
        returns[block.keys] = torch.arange(len(block.keys)) + i * longest_key
    return returns if bool((returns >= 0).all()) else None


class _Pad(torch.autograd.Function):
    """`x[index]`; where every row of x is taken once, the gradient is a plain gather instead of an addition."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, returns: Tensor | None) -> Tensor:
        ctx.save_for_backward(index, returns)
        ctx.rows = x.shape[0]
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        index, returns = ctx.saved_tensors
        (grad,) = grads
        if returns is not None:
            return grad.index_select(0, returns), None, None
        return grad.new_zeros(ctx.rows, *grad.shape[1:]).index_add_(0, index, grad), None, None


class _Unpad(torch.autograd.Function):
    """`x[order]` where each row is taken at most once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        ctx.rows = x.shape[0]
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        (grad,) = grads
        return grad.new_zeros(ctx.rows, *grad.shape[1:]).index_copy_(0, order, grad), None


def shared_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shared: Plan | Steps | None = None,
    learned: KeysAndValues | None = None,
    keep: dict[int, KeysAndValues] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **keywords: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query `[1, heads, tokens, size]` to output `[1, tokens, heads, size]`.

    A plain row attends to what is `learned` before it; `keep` is filled with each layer's keys and values.
    Raises NotImplementedError where a layer asks for what the blocks do not know: windows, soft caps, sinks, biases.
    """
    number: int = getattr(module, "layer_idx", 0)
    if keep is not None:
        keep.setdefault(number, (key, value))  # the first: a checkpointed layer is computed again
    if shared is None:
        if learned is not None:
            key, value, attention_mask = widened(number, learned, query, key, value, attention_mask)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **keywords
        )
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if keywords.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    if not isinstance(shared, Plan):  # the step of a decoder
        size = query.shape[-1] ** -0.5 if scaling is None else scaling
        return shared.attend(number, query[0], key[0], value[0], size).unsqueeze(0), None
    if shared.past is not None:
        key, value = (
            torch.cat([old[number, None].to(x.dtype), x], 2) for old, x in zip(shared.past, (key, value), strict=True)
        )
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    outputs = [_attend(q, k, v, group, scaling, dropout) for group in shared.groups]
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    # torch leaves apply untyped, here and below
    return _Unpad.apply(output, shared.order).unsqueeze(0), None  # type: ignore[no-untyped-call]


def _attend(q: Tensor, k: Tensor, v: Tensor, group: Group, scaling: float | None, dropout: float) -> Tensor:
    """`[tokens, heads, size]` to `[blocks * longest query, heads, size]`."""
    if group.divided is not None and can_divide(q, v, dropout):
        return divided_attention(q, k, v, group.queries, group.divided, scaling)
    same = group.mask is None
    padded = (
        _Pad.apply(x, index, group.returns if same or x is not q else None)  # type: ignore[no-untyped-call]
        .view(group.blocks, -1, *x.shape[1:])
        .transpose(1, 2)
        for x, index in ((q, group.queries), (k, group.keys), (v, group.keys))
    )
    query, key, value = padded
    if products_pay(query, key, dropout):
        small = product_attention(
            query, key, value, group.mask, query.shape[-1] ** -0.5 if scaling is None else scaling
        )
        return small.transpose(1, 2).reshape(-1, *q.shape[1:])
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = (x.repeat_interleave(repeat, dim=1) for x in (key, value))
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=group.mask, dropout_p=dropout, is_causal=group.mask is None, scale=scaling
    )
    return output.transpose(1, 2).reshape(-1, *q.shape[1:])


AttentionInterface.register(NAME, shared_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
