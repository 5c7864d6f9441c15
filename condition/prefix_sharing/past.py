"""Keys and values that lie before a row: read once, by chunks, and attended to by whatever comes behind.

a long prompt      [── chunk ──][── chunk ──][── rest of the prompts, a tree ──]
a kept prefix      [── from memory ─────────][── rest of the prompts, a tree ──]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from condition.prefix_sharing.attention import check_exchanged, plan
from condition.prefix_sharing.layout import Laid, lay
from condition.prefix_sharing.learned import before_row

CHUNK = 1024
"""Tokens of a long beginning that go through the network at once."""


@dataclass(frozen=True)
class Past:
    """Keys and values of the tokens that a row begins with."""

    ids: tuple[int, ...]
    keys: Tensor
    """`[layers, shared heads, tokens, size]`"""
    values: Tensor
    """`[layers, shared heads, tokens, value size]`"""

    def first(self, tokens: int) -> Past:
        """Its beginning: what comes later never changes what came before."""
        return Past(self.ids[:tokens], self.keys[:, :, :tokens], self.values[:, :, :tokens])


class Read(NamedTuple):
    """What a pass over a row leaves."""

    hidden: Tensor
    """`[tokens, width]`: last hidden states."""
    keys: Tensor
    """`[layers, shared heads, tokens, size]`"""
    values: Tensor


@torch.inference_mode()
def remember(network: PreTrainedModel, ids: Sequence[int], past: Past | None = None) -> Past:
    """Read a beginning to keep, on from `past` if it begins with that. Ask `probe.shareable(network)` first.

    Raises ValueError for one without tokens.
    """
    if not ids:
        raise ValueError("a beginning without tokens has nothing to keep")
    past = read_long(network, past, ids)
    return _longer(network, past, ids[len(past.ids) if past else 0 :])


def read_long(network: PreTrainedModel, past: Past | None, ids: Sequence[int]) -> Past | None:
    """What lies before the last chunk of a beginning `ids` that goes on from `past`."""
    start = len(past.ids) if past else 0
    while len(ids) - start > CHUNK:
        past = _longer(network, past, ids[start : start + CHUNK])
        start += CHUNK
    return past


def read(network: PreTrainedModel, past: Past | None, laid: Laid) -> Read:
    """One pass over a tree of tokens behind `past`.

    Raises RuntimeError for a network whose attention was never exchanged: it would read the tree as one plain row.
    """
    check_exchanged(network)
    device, before = network.device, len(past.ids) if past else 0
    cache = DynamicCache(config=network.config)
    output = cast(Any, network.base_model)(
        input_ids=torch.tensor([laid.row], device=device),
        position_ids=torch.tensor([laid.positions], device=device) + before,
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),
        past_key_values=cache,
        use_cache=True,
        shared=plan(laid.blocks, len(laid.row), before_row(network, past), laid.ends).to(device),
    )
    layers = cast("list[Any]", cache.layers)
    keys, values = (torch.stack([getattr(layer, name)[0] for layer in layers]) for name in ("keys", "values"))
    return Read(output.last_hidden_state[0], keys, values)


def _longer(network: PreTrainedModel, past: Past | None, ids: Sequence[int]) -> Past:
    found = read(network, past, lay([ids]))
    if past is None:
        return Past(tuple(ids), found.keys, found.values)
    return Past((*past.ids, *ids), torch.cat([past.keys, found.keys], 2), torch.cat([past.values, found.values], 2))
