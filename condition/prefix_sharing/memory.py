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
from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.prefix_sharing.layout import common_prefix, lay
from condition.prefix_sharing.learned import learned_of
from condition.prefix_sharing.past import Past, read, read_long

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
    """`[layers, shared heads, prompts, size, longest rest]`"""
    values: Tensor
    """`[layers, shared heads, prompts, longest rest, value size]`"""
    bias: Tensor
    """`[prompts, 1, longest rest]`: 0 where a rest has a token, minus infinity behind it."""
    lengths: Tensor
    """`[prompts]`: tokens in each prompt."""
    hidden: Tensor
    """`[prompts, width]`: the last hidden state at each prompt's last token."""
    computed: int
    """Tokens that went through the network."""

    def only(self, prompts: Tensor) -> Stored:
        """What is left for some of the prompts, by their numbers."""
        return Stored(
            self.header_keys,
            self.header_values,
            self.keys[:, :, prompts],
            self.values[:, :, prompts],
            self.bias[prompts],
            self.lengths[prompts],
            self.hidden[prompts],
            self.computed,
        )


@torch.inference_mode()
def store(network: PreTrainedModel, prompts: Sequence[Sequence[int]], kept: Past | None = None) -> Stored:
    """Read prompts `[prompts][tokens]`, each common beginning once. Ask `probe.shareable(network)` first.

    Of `kept` is taken what all prompts begin with. Raises ValueError for a prompt without tokens.
    """
    if not prompts or not all(prompts):
        raise ValueError("a prompt without tokens has nothing to go on from")
    device = network.device
    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    before = min(shared, *(len(prompt) - 1 for prompt in prompts))  # a prompt's last token is always read
    known = common_prefix(kept.ids, prompts[0][:before]) if kept else 0
    past = read_long(network, kept.first(known) if kept and known else None, prompts[0][:before])
    laid = lay([prompt[len(past.ids) if past else 0 :] for prompt in prompts])
    row = read(network, past, laid)
    done = len(past.ids) if past else 0
    rests = [places[shared - done :] for places in laid.places]
    longest = max(map(len, rests))
    header = torch.tensor(laid.places[0][: shared - done], device=device, dtype=torch.long)
    places = torch.tensor([rest + [0] * (longest - len(rest)) for rest in rests], device=device, dtype=torch.long)
    held = torch.tensor(
        [[True] * len(rest) + [False] * (longest - len(rest)) for rest in rests], device=device, dtype=torch.bool
    )
    held = held.view(len(prompts), 1, longest)
    keys, values = row.keys[:, :, header], row.values[:, :, header]
    if past:
        keys, values = torch.cat([past.keys, keys], 2), torch.cat([past.values, values], 2)
    if (learned := learned_of(network)) is not None:
        first = learned.keys_and_values(network.base_model)
        keys, values = (torch.cat([x.to(own.dtype), own], 2) for x, own in zip(first, (keys, values), strict=True))
    return Stored(
        header_keys=keys.transpose(2, 3).contiguous(),
        header_values=values.contiguous(),
        keys=row.keys[:, :, places].transpose(3, 4).contiguous(),
        values=row.values[:, :, places],
        bias=torch.zeros(held.shape, device=device).masked_fill_(~held, float("-inf")),
        lengths=torch.tensor([len(prompt) for prompt in prompts], device=device),
        hidden=row.hidden[[places[-1] for places in laid.places]],
        computed=len(laid.row) + done - known,
    )


@final
class Memory:
    """What the attention of one step reads and adds to. Handed to the network as its `shared` keyword."""

    def __init__(self, stored: Stored, samples: int, most: int) -> None:
        """`samples` for each prompt, with room for `most` tokens each."""
        layers, heads, prompts, size, _ = stored.keys.shape
        self.stored, self.samples, self.most = stored, samples, most
        self.said = 0
        """Tokens that every sample has said."""
        room = min(most, FIRST_ROOM)
        self._keys = stored.keys.new_empty(layers, heads, prompts * samples, room, size)
        self._values = stored.values.new_empty(layers, heads, prompts * samples, room, stored.values.shape[-1])

    @property
    def positions(self) -> Tensor:
        """`[rows]`: the place of the token that each sample says next."""
        return self.stored.lengths.repeat_interleave(self.samples) + self.said

    def keep(self, rows: Tensor, prompts: Tensor) -> None:
        """Go on with some samples, `[prompts * samples]` by their numbers, of some prompts."""
        self.stored = self.stored.only(prompts)
        self.samples = len(rows) // len(prompts)
        self._keys, self._values = self._keys[:, :, rows], self._values[:, :, rows]

    def make_room(self) -> None:
        """Called before each step."""
        room = self._keys.shape[-2]
        if self.said < room:
            return
        more = min(self.most, 2 * room) - room
        self._keys, self._values = (
            torch.cat([kept, kept.new_empty(*kept.shape[:-2], more, kept.shape[-1])], -2)
            for kept in (self._keys, self._values)
        )

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Query `[heads, rows, size]`, key and value `[shared heads, rows, size]` to `[rows, heads, value size]`."""
        stored, said = self.stored, self.said + 1
        heads, rows, size = key.shape
        prompts, groups = len(stored.lengths), query.shape[0] // heads
        header, rest = stored.header_keys.shape[-1], stored.keys.shape[-1]
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, said - 1], values[:, :, said - 1] = key, value
        own_keys, own_values = keys[:, :, :said], values[:, :, :said]
        # One query after the other, [shared heads, rows * groups, ...], lets every part be seen without being copied.
        q = (query * scaling).view(heads, groups, rows, size).transpose(1, 2).reshape(heads, rows * groups, size)
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = q.new_empty(heads, rows * groups, header + rest + said, dtype=wide)
        by_prompt, by_row = (heads, prompts, -1), (heads, rows, groups)
        if header:
            scores[..., :header] = torch.matmul(q, stored.header_keys[layer])
        if rest:
            found = torch.matmul(q.view(*by_prompt, size), stored.keys[layer]) + stored.bias
            scores[..., header : header + rest] = found.view(heads, -1, rest)
        found = torch.matmul(q.view(*by_row, size), own_keys.transpose(-1, -2))
        scores[..., header + rest :] = found.view(heads, -1, said)
        weights = torch.softmax(scores, -1).to(value.dtype)
        output = torch.matmul(weights.view(*by_row, -1)[..., header + rest :], own_values).view(
            heads, rows * groups, -1
        )
        if header:
            output += torch.matmul(weights[..., :header], stored.header_values[layer])
        if rest:
            mine = weights.view(*by_prompt, weights.shape[-1])[..., header : header + rest]
            output += torch.matmul(mine, stored.values[layer]).view(output.shape)
        return output.view(*by_row, -1).transpose(0, 1).reshape(rows, heads * groups, -1)
