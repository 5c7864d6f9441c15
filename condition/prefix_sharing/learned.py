"""Keys and values that a network has learned to see before every row: prefix tuning, and soft prompts.

    learned prefix     row
    [──────────────]──[─────────]     also before a packed tree, a stored prompt, and each step of a decoder

An adapter puts its module under `NAME` into the base model and hooks `see` in front of it. The numbers stand in no
cache: the attention function adds them, so every path sees them, and a row's positions go on behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from condition.prefix_sharing.past import Past

NAME = "learned_prefix"
KeysAndValues = tuple[Tensor, Tensor]
"""`[layers, shared heads, tokens, size]` each."""


class Learned(Protocol):
    """A module that gives what is seen before a row."""

    off: bool
    """Switched off: the network is the one that it was attached to."""

    @property
    def length(self) -> int:
        """Tokens."""

    def keys_and_values(self, base: nn.Module, /) -> KeysAndValues:
        """Of all layers; gradients flow."""


def learned_of(network: PreTrainedModel) -> Learned | None:
    """The learned prefix of a network, where it has one that is not switched off."""
    return _of(network.base_model)


def learned_length(network: PreTrainedModel) -> int:
    """Tokens of the context that a learned prefix takes."""
    learned = learned_of(network)
    return 0 if learned is None else learned.length


def before_row(network: PreTrainedModel, past: Past | None) -> KeysAndValues | None:
    """All that a row sees before itself: the learned prefix, and behind it what is `past`."""
    learned = learned_of(network)
    if learned is None:
        return None if past is None else (past.keys, past.values)
    keys, values = learned.keys_and_values(network.base_model)
    if past is None:
        return keys, values
    return torch.cat([keys.to(past.keys), past.keys], 2), torch.cat([values.to(past.values), past.values], 2)


def see(base: nn.Module, given: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """A hook in front of a base model: a row stands behind the prefix, and a plain one is told what to attend to."""
    learned = _of(base)
    if learned is None or "keep" in keywords:
        return None
    positions = keywords.get("position_ids")
    if positions is None:
        row = given[0] if given else keywords.get("input_ids")
        row = keywords["inputs_embeds"] if row is None else row
        cache = keywords.get("past_key_values")
        done = 0 if cache is None else int(cache.get_seq_length())
        positions = torch.arange(done, done + row.shape[1], device=row.device)[None]
    keywords = {**keywords, "position_ids": positions + learned.length}
    if keywords.get("shared") is None:  # whoever packs rows or stores prompts asks `before_row`
        keywords["learned"] = learned.keys_and_values(base)
    return given, keywords


def record(base: nn.Module, embeddings: Tensor) -> KeysAndValues:
    """Keys and values of embeddings `[tokens, width]` that stand at the very beginning; gradients flow.

    Raises NotImplementedError where the attention can't be exchanged.
    """
    kept: dict[int, KeysAndValues] = {}
    positions = torch.arange(len(embeddings), device=embeddings.device)[None]
    base(inputs_embeds=embeddings[None], position_ids=positions, use_cache=False, keep=kept)
    if not kept:
        raise NotImplementedError("its attention can't be exchanged")
    layers = [kept[number] for number in sorted(kept)]
    return torch.stack([key[0] for key, _ in layers]), torch.stack([value[0] for _, value in layers])


def widened(
    layer: int, learned: KeysAndValues, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys and values `[batch, shared heads, tokens, size]` behind the prefix, and a mask that lets everybody see it.

    Mask `[batch, 1, queries, keys]`, boolean or added to the scores; none is causal.
    """
    keys, values = (x[layer].to(key.dtype).expand(key.shape[0], -1, -1, -1) for x in learned)
    queries, own, length = query.shape[2], key.shape[2], keys.shape[2]
    if mask is None and queries > 1:
        mask = torch.ones(queries, own, dtype=torch.bool, device=key.device).tril(own - queries)[None, None]
    if mask is not None:
        mask = mask[..., :own]
        seen = torch.ones if mask.dtype == torch.bool else torch.zeros
        mask = torch.cat([seen(*mask.shape[:-1], length, dtype=mask.dtype, device=mask.device), mask], -1)
    return torch.cat([keys, key], 2), torch.cat([values, value], 2), mask


def _of(base: nn.Module) -> Learned | None:
    learned: Learned | None = getattr(base, NAME, None)
    return None if learned is None or learned.off else learned
