"""Rows whose prompts begin alike, put into one batch: there the common beginning is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from condition.prefix_sharing.layout import common_prefix
from condition.training.rows import Trained

LOOK_AHEAD = 64
"""Groups that are tried for the rest of a batch before one is cut to fit."""


class AlikeSampler(Sampler[int]):
    """Every row once an epoch, shuffled, so that groups which begin alike do not cross the border of a batch."""

    def __init__(self, rows: Sequence[Trained], batch_size: int, seed: int) -> None:
        self.runs, self.batch_size, self.seed, self.epoch = alike(rows), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate, so that each epoch has an order of its own, the same after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    def __iter__(self) -> Iterator[int]:
        numbers = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        # At most half a batch, so that a step seldom learns from one passage alone.
        most = max(1, self.batch_size // 2)
        groups: list[list[int]] = []
        for run in self.runs:
            mixed = [run[i] for i in torch.randperm(len(run), generator=numbers).tolist()]
            groups += [mixed[i : i + most] for i in range(0, len(mixed), most)]
        yield from _filled(
            [groups[i] for i in torch.randperm(len(groups), generator=numbers).tolist()], self.batch_size
        )


def _filled(groups: list[list[int]], batch_size: int) -> Iterator[int]:
    """Members of all groups; every `batch_size` of them hold whole groups, or one cut piece where none fits."""
    room = batch_size
    while groups:
        fits = [i for i, group in enumerate(groups[:LOOK_AHEAD]) if len(group) <= room]
        if fits:
            piece = groups.pop(next((i for i in fits if len(groups[i]) == room), fits[0]))
        else:
            groups[0], piece = groups[0][room:], groups[0][:room]
        yield from piece
        room = (room - len(piece)) or batch_size


def alike(rows: Sequence[Trained], least: int = 32) -> list[list[int]]:
    """Indices of rows in runs whose prompts begin with the same `least` tokens, and share at least half of them."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].ids)
    runs: list[list[int]] = []
    for index in order:
        if runs and common_prefix(rows[runs[-1][0]].ids, rows[index].ids) >= max(least, rows[index].start // 2):
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
