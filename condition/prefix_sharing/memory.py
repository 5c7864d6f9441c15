"""Keys and values while answers are written: what all prompts begin with once, each rest once, each sample its own.

       header            rest of a prompt      what a sample has said
    [──────────────]──┬─[──────────]──┬────────[───]
                      │               └────────[───]
                      └─[─────]────────────────[───]

A sample's query meets three parts, whose scores go through one softmax: the numbers are those of a row that holds all
of it. The header is read by all samples in one product, a rest by all samples of its prompt, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from condition.prefix_sharing.attention import plan
from condition.prefix_sharing.layout import common_prefix, lay

FIRST_ROOM = 32
"""Tokens that a sample has room for at first; doubled as often as it takes."""


@dataclass(frozen=True)
class Stored:
    """Keys and values of prompts, `[layers, ...]`: what each sample goes on from."""

    header_keys: Tensor
    """`[layers, shared heads, size, header]`"""
    header_values: Tensor
    """`[layers, shared heads, header, value size]`"""
    keys: Tensor
    """`[layers, prompts, shared heads, size, longest rest]`"""
    values: Tensor
    """`[layers, prompts, shared heads, longest rest, value size]`"""
    bias: Tensor
    """`[prompts, 1, 1, longest rest]`: 0 where a rest has a token, minus infinity behind it."""
    lengths: Tensor
    """`[prompts]`: tokens in each prompt."""
    hidden: Tensor
    """`[prompts, width]`: the last hidden state at each prompt's last token."""
    computed: int
    """Tokens that went through the network."""

    @property
    def row_bytes(self) -> int:
        """What a sample stores for each token."""
        layers, _, heads, size, _ = self.keys.shape
        return layers * heads * (size + self.values.shape[-1]) * self.keys.element_size()

    def only(self, prompts: Tensor) -> Stored:
        """What is left for some of the prompts, by their numbers."""
        return Stored(
            self.header_keys,
            self.header_values,
            self.keys[:, prompts],
            self.values[:, prompts],
            self.bias[prompts],
            self.lengths[prompts],
            self.hidden[prompts],
            self.computed,
        )


@torch.inference_mode()
def store(network: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Stored:
    """Read prompts `[prompts][tokens]`, each common beginning once. Ask `probe.shareable(network)` first.

    Raises ValueError for a prompt without tokens.
    """
    if not prompts or not all(prompts):
        raise ValueError("a prompt without tokens has nothing to go on from")
    device = network.device
    laid = lay(prompts)
    cache = DynamicCache(config=network.config)
    output = cast(Any, network.base_model)(
        input_ids=torch.tensor([laid.row], device=device),
        position_ids=torch.tensor([laid.positions], device=device),
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),
        past_key_values=cache,
        use_cache=True,
        shared=plan(laid.blocks, len(laid.row)).to(device),
    )
    layers = cast("list[Any]", cache.layers)
    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    rests = [places[shared:] for places in laid.places]
    longest = max(map(len, rests))
    header = torch.tensor(laid.places[0][:shared], device=device, dtype=torch.long)
    places = torch.tensor([rest + [0] * (longest - len(rest)) for rest in rests], device=device, dtype=torch.long)
    held = torch.tensor(
        [[True] * len(rest) + [False] * (longest - len(rest)) for rest in rests], device=device, dtype=torch.bool
    )
    held = held.view(len(prompts), 1, 1, longest)
    return Stored(
        header_keys=torch.stack([layer.keys[0][:, header].transpose(1, 2) for layer in layers]).contiguous(),
        header_values=torch.stack([layer.values[0][:, header] for layer in layers]).contiguous(),
        keys=torch.stack([layer.keys[0][:, places].permute(1, 0, 3, 2) for layer in layers]).contiguous(),
        values=torch.stack([layer.values[0][:, places].transpose(0, 1) for layer in layers]).contiguous(),
        bias=torch.zeros(held.shape, device=device).masked_fill_(~held, float("-inf")),
        lengths=torch.tensor([len(prompt) for prompt in prompts], device=device),
        hidden=output.last_hidden_state[0][[places[-1] for places in laid.places]],
        computed=len(laid.row),
    )


@final
class Memory:
    """What the attention of one step reads and adds to. Handed to the network as its `shared` keyword."""

    def __init__(self, stored: Stored, samples: int, most: int) -> None:
        """`samples` for each prompt, with room for `most` tokens each."""
        layers, prompts, heads, size, _ = stored.keys.shape
        self.stored, self.samples, self.most = stored, samples, most
        self.said = 0
        """Tokens that every sample has said."""
        room = min(most, FIRST_ROOM)
        self._keys = stored.keys.new_empty(layers, prompts * samples, heads, size, room)
        self._values = stored.values.new_empty(layers, prompts * samples, heads, room, stored.values.shape[-1])

    @property
    def positions(self) -> Tensor:
        """`[rows]`: the place of the token that each sample says next."""
        return self.stored.lengths.repeat_interleave(self.samples) + self.said

    def keep(self, rows: Tensor, prompts: Tensor) -> None:
        """Go on with some samples, `[prompts * samples]` by their numbers, of some prompts."""
        self.stored = self.stored.only(prompts)
        self.samples = len(rows) // len(prompts)
        self._keys, self._values = self._keys[:, rows], self._values[:, rows]

    def make_room(self) -> None:
        """Called before each step."""
        room = self._keys.shape[-1]
        if self.said < room:
            return
        more = min(self.most, 2 * room) - room
        self._keys = torch.cat([self._keys, self._keys.new_empty(*self._keys.shape[:-1], more)], -1)
        blank = self._values.new_empty(*self._values.shape[:-2], more, self._values.shape[-1])
        self._values = torch.cat([self._values, blank], -2)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Query `[heads, rows, size]`, key and value `[shared heads, rows, size]` to `[rows, heads, value size]`."""
        stored, heads, said = self.stored, key.shape[0], self.said + 1
        rows, size = query.shape[1:]
        prompts, samples, groups = len(stored.lengths), self.samples, query.shape[0] // heads
        header, rest = stored.header_keys.shape[-1], stored.keys.shape[-1]
        keys, values = self._keys[layer], self._values[layer]
        keys[..., said - 1] = key.transpose(0, 1)
        values[..., said - 1, :] = value.transpose(0, 1)
        q = (query * scaling).view(heads, groups, rows, size).permute(2, 0, 1, 3)  # [rows, shared heads, groups, size]
        own = keys[..., :said]
        scores = torch.empty(rows, heads, groups, header + rest + said, device=q.device)
        every = q.transpose(0, 1).reshape(heads, rows * groups, size)
        if header:
            found = torch.matmul(every, stored.header_keys[layer])
            scores[..., :header] = found.view(heads, rows, groups, header).transpose(0, 1)
        if rest:
            mine = _by_prompt(q, prompts, samples)
            found = torch.matmul(mine, stored.keys[layer]) + stored.bias
            scores[..., header : header + rest] = _by_row(found, samples, groups)
        scores[..., header + rest :] = torch.matmul(q, own)
        weights = torch.softmax(scores, -1).to(value.dtype)
        output = torch.matmul(weights[..., header + rest :], values[..., :said, :])
        if header:
            told = weights[..., :header].transpose(0, 1).reshape(heads, rows * groups, header)
            output += torch.matmul(told, stored.header_values[layer]).view(heads, rows, groups, -1).transpose(0, 1)
        if rest:
            told = _by_prompt(weights[..., header : header + rest], prompts, samples)
            output += _by_row(torch.matmul(told, stored.values[layer]), samples, groups)
        return output.view(rows, heads * groups, -1)


def _by_prompt(x: Tensor, prompts: int, samples: int) -> Tensor:
    """`[prompts * samples, heads, groups, width]` to `[prompts, heads, samples * groups, width]`."""
    _, heads, groups, width = x.shape
    x = x.reshape(prompts, samples, heads, groups, width).transpose(1, 2)
    return x.reshape(prompts, heads, samples * groups, width)


def _by_row(x: Tensor, samples: int, groups: int) -> Tensor:
    """The way back."""
    prompts, heads, _, width = x.shape
    x = x.view(prompts, heads, samples, groups, width).transpose(1, 2)
    return x.reshape(prompts * samples, heads, groups, width)
