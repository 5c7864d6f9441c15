"""Attention over a packed tree of prompts, in the one place that chooses how.

The network reads one unpadded row; only here are the blocks of `layout.pack` padded, attended and put back, so that
no linear layer ever sees padding. Plain causal rows go through the causal kernel, branches through a boolean mask, and
long trees on a GPU through one sparse mask over the row (`flex`).
Registered with transformers under `NAME`; without a `shared` keyword it is transformers' own `sdpa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, cast, final

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from condition.errors import ModelError
from condition.prefix_sharing.flex import due, flex_pays, tree_attention, tree_mask
from condition.prefix_sharing.groups import Group, Grouped, grouped
from condition.prefix_sharing.header import can_divide, divided_attention
from condition.prefix_sharing.layout import Block
from condition.prefix_sharing.learned import KeysAndValues, learned_of, widened
from condition.prefix_sharing.products import product_attention, products_pay

NAME = "condition_shared"


@final
class Plan:
    """How the tokens of a packed row attend: made once a batch, used by every layer.

    Groups of blocks, or the one mask of `flex`, come into being when the first layer asks for them.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        tokens: int,
        past: KeysAndValues | None,
        ends: Tensor | None,
        device: torch.device,
    ) -> None:
        self.blocks, self.tokens, self.past, self.ends, self.device = blocks, tokens, past, ends, device
        """`past`: keys and values `[layers, shared heads, past, size]` of tokens before the row, which all tokens see.
        `ends`: `[tokens]`, where the stretch of the row ends that sees each token; none where the blocks say more."""
        # Plain causal rows have a kernel of their own, which is hard to beat.
        masked = self.before > 0 or any(block.mask is not None for block in blocks)
        self.due = masked and ends is not None and due(self.before + tokens, device)

    @property
    def before(self) -> int:
        """Tokens before the row."""
        return 0 if self.past is None else self.past[0].shape[2]

    @cached_property
    def grouped(self) -> Grouped:
        return grouped(self.blocks, self.tokens, self.before).to(self.device)

    @cached_property
    def mask(self) -> BlockMask:
        assert self.ends is not None
        return tree_mask(self.ends, self.before, self.device)

    def to(self, device: torch.device) -> Plan:
        return Plan(self.blocks, self.tokens, self.past, self.ends, device)


class Steps(Protocol):
    """What the samples of a decoder attend to."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Query `[heads, rows, size]`, key and value `[shared heads, rows, size]` to `[rows, heads, size]`."""


def plan(blocks: Sequence[Block], tokens: int, past: KeysAndValues | None = None, ends: Tensor | None = None) -> Plan:
    """How a row of `tokens` in `blocks` attends. With the `ends` of `layout.lay` it may do so by one mask on a GPU."""
    return Plan(blocks, tokens, past, ends, torch.device("cpu"))


def check_exchanged(network: PreTrainedModel) -> None:
    """Raises RuntimeError for a network whose attention was never exchanged: it would read a tree as one plain row."""
    if network.config._attn_implementation != NAME:
        raise RuntimeError(f"{type(network).__name__} does not attend by blocks: ask probe.shareable(network) first")


def check_seen(base: torch.nn.Module, given: object) -> None:
    """A hook in front of a base model with a learned prefix, which only our attention adds to what a row sees.

    Raises ModelError where another one was set afterwards: the row would be read without its prefix.
    """
    now = base.config._attn_implementation  # type: ignore[union-attr]  # nn.Module types its attributes so
    if now != NAME and learned_of(cast(PreTrainedModel, base)) is not None:
        raise ModelError(
            f"{type(base).__name__} has learned a prefix, and its attention was set to {now!r}, which does not see it: "
            f"network.set_attn_implementation({NAME!r}) brings back the one that does"
        )


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
    if shared.ends is not None and flex_pays(query, key, value, dropout, shared.due):
        return tree_attention(query, key, value, shared.mask, scaling), None
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    outputs = [_attend(q, k, v, group, scaling, dropout) for group in shared.grouped.groups]
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    # torch leaves apply untyped, here and below
    return _Unpad.apply(output, shared.grouped.order).unsqueeze(0), None  # type: ignore[no-untyped-call]


def _attend(q: Tensor, k: Tensor, v: Tensor, group: Group, scaling: float | None, dropout: float) -> Tensor:
    """`[tokens, heads, size]` to `[blocks * longest query, heads, size]`."""
    if can_divide(q, v, dropout) and group.divided is not None:
        return divided_attention(q, k, v, group.queries, group.divided, scaling)
    same = group.mask is None
    padded = (
        _Pad.apply(x, index, group.returns if same or x is not q else None)  # type: ignore[no-untyped-call]
        .view(len(group.blocks), -1, *x.shape[1:])
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
