"""The order of rows by their length.

by-length     batches of rows of like length, in random order: each step takes about as long, and as much memory
short-first   a curriculum: in the first epoch from short to long (Bengio et al. 2009), shuffled in later ones
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch.utils.data import Sampler

from condition.training.rows import Trained

Order = Literal["shuffled", "by-length", "short-first"]
POOL = 50
"""Batches whose rows are sorted together, so that a batch is of like length and no two epochs are the same."""


def size_of(row: Trained) -> int:
    """How much a row is to compute: its `size` in tokens where it has one, or else by prompt and trained tokens."""
    return int(getattr(row, "size", len(row.ids) + len(row.labels)))


class LengthSampler(Sampler[int]):
    """Every row once an epoch, ordered by length."""

    def __init__(self, rows: Sequence[Trained], batch_size: int, seed: int, order: Order) -> None:
        self.lengths = [size_of(row) for row in rows]
        self.batch_size, self.seed, self.order, self.epoch = batch_size, seed, order, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate, so that each epoch has an order of its own, the same after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        numbers = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        mixed = torch.randperm(len(self), generator=numbers).tolist()
        if self.order == "short-first" and self.epoch == 0:
            return iter(sorted(mixed, key=self.lengths.__getitem__))
        if self.order != "by-length":
            return iter(mixed)
        pool = POOL * self.batch_size
        pools = [sorted(mixed[i : i + pool], key=self.lengths.__getitem__) for i in range(0, len(mixed), pool)]
        batches = [p[i : i + self.batch_size] for p in pools for i in range(0, len(p), self.batch_size)]
        whole, rest = (
            [b for b in batches if len(b) == self.batch_size],
            [b for b in batches if len(b) < self.batch_size],
        )
        order = torch.randperm(len(whole), generator=numbers).tolist()
        return (i for batch in [*(whole[i] for i in order), *rest] for i in batch)
