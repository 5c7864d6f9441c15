"""Stored keys and values for many prompts, each common beginning computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from condition.prefix_sharing.attention import plan
from condition.prefix_sharing.layout import lay


class Prefilled(NamedTuple):
    """What `generate` goes on from: keys and values of all but each prompt's last token, padded on the left."""

    cache: DynamicCache
    computed: int
    """Tokens that went through the network."""


@torch.no_grad()
def prefill(network: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Prefilled:
    """A cache `[prompts, heads, longest - 1, size]` a layer. Ask `probe.shareable(network)` first.

    Raises ValueError where no prompt has more than one token: there is nothing to store.
    """
    laid = lay([prompt[:-1] for prompt in prompts])
    if not laid.row:
        raise ValueError("no prompt has more than one token")
    device = network.device
    packed = DynamicCache(config=network.config)
    cast(Any, network.base_model)(
        input_ids=torch.tensor([laid.row], device=device),
        position_ids=torch.tensor([laid.positions], device=device),
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),
        past_key_values=packed,
        use_cache=True,
        shared=plan(laid.blocks, len(laid.row)).to(device),
    )
    longest = max(map(len, laid.places))
    places = torch.tensor([[0] * (longest - len(p)) + p for p in laid.places], device=device)
    cache = DynamicCache(config=network.config)
    for number, layer in enumerate(cast("list[Any]", packed.layers)):
        cache.update(_taken(layer.keys, places), _taken(layer.values, places), number)
    return Prefilled(cache, len(laid.row))


def _taken(stored: Tensor, places: Tensor) -> Tensor:
    """`[1, heads, tokens, size]` to `[prompts, heads, longest, size]`."""
    return stored[0][:, places].transpose(0, 1).contiguous()
