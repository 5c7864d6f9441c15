"""Blocks of a packed tree sorted into groups of like kind and size: what one kernel call attends to.

Plain causal rows go together, and so do blocks under a mask; each group is padded to its longest block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from condition.prefix_sharing.header import Divided, divided
from condition.prefix_sharing.layout import Block


@dataclass(frozen=True)
class Group:
    """Blocks that attend in one kernel call."""

    blocks: Sequence[Block]
    queries: Tensor
    """`[blocks * longest query]`: places in the row."""
    keys: Tensor
    """`[blocks * longest key]`"""
    mask: Tensor | None
    """`[blocks, 1, longest query, longest key]`, or none for plain causal rows."""
    returns: Tensor | None
    """`[tokens]`: where each token lies among `keys`; only where every token is a key of just one block."""

    @cached_property
    def divided(self) -> Divided | None:
        """The keys as a header that all blocks see and what each has of its own, looked for when it is asked for."""
        return None if self.mask is None else divided(self.blocks, self.keys.view(len(self.blocks), -1), self.mask)

    def to(self, device: torch.device) -> Group:
        return Group(
            self.blocks,
            self.queries.to(device),
            self.keys.to(device),
            None if self.mask is None else self.mask.to(device),
            None if self.returns is None else self.returns.to(device),
        )


@dataclass(frozen=True)
class Grouped:
    """A packed row in groups."""

    groups: tuple[Group, ...]
    order: Tensor
    """`[tokens]`: where each token's output lies in the concatenated outputs of the groups."""

    def to(self, device: torch.device) -> Grouped:
        return Grouped(tuple(group.to(device) for group in self.groups), self.order.to(device))


def grouped(blocks: Sequence[Block], tokens: int, past: int = 0) -> Grouped:
    """Sort blocks into groups, behind `past` keys that all their queries see."""
    if past:
        blocks = [_behind(block, past) for block in blocks]
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
    return Grouped(tuple(groups), order)


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
    mask = None
    if blocks[0].mask is not None:
        mask = torch.zeros(len(blocks), 1, longest_query, longest_key, dtype=torch.bool)
        mask[..., 0] = True  # a padded query that sees nothing would be NaN
        for i, block in enumerate(blocks):
            assert block.mask is not None
            mask[i, 0, : len(block.queries), : len(block.keys)] = block.mask
    return Group(blocks, queries.flatten(), keys.flatten(), mask, _returns(blocks, tokens, longest_key))


def _returns(blocks: list[Block], tokens: int, longest_key: int) -> Tensor | None:
    if sum(len(b.keys) for b in blocks) != tokens:
        return None
    returns = torch.full((tokens,), -1)
    for i, block in enumerate(blocks):
        returns[block.keys] = torch.arange(len(block.keys)) + i * longest_key
    return returns if bool((returns >= 0).all()) else None
