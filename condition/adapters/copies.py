"""Packed copies of weights, kept for the next time: the longest unused go first, and those of weights that are gone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple, final
from weakref import finalize

import torch
from torch import Tensor

from condition import onednn

Weights = tuple[Tensor, ...]


class _Copy(NamedTuple):
    packed: Tensor
    stamp: tuple[object, ...]
    size: int


@final
class Copies:
    """Copies that take at most `limit` bytes together. Weights `[out, in]` that read one input share a copy."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[tuple[int, ...], _Copy] = {}  # by the weights' ids, what was used last at the end
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """What the copies take now."""
        return sum(copy.size for copy in list(self._kept.values()))

    def of(self, groups: Sequence[Weights]) -> list[Tensor]:
        """The copy of each group, made where there is none; an empty list where all together have no room."""
        needed = sum(map(_size, groups))
        if needed > self.limit:
            return []
        with self._lock:
            known = [self._known(group) for group in groups]
            while self._kept and self.bytes + needed > self.limit:
                self._kept.pop(next(iter(self._kept)), None)
            return [self._keep(group, copy).packed for group, copy in zip(groups, known, strict=True)]

    def _known(self, group: Weights) -> _Copy | None:
        """Taken out, to be kept again as the latest."""
        copy = self._kept.pop(_key(group), None)
        return copy if copy is not None and copy.stamp == _stamp(group) else None

    def _keep(self, group: Weights, copy: _Copy | None) -> _Copy:
        key = _key(group)
        if copy is None:
            copy = _make(group)
            for weight in group:
                finalize(weight, self._kept.pop, key, None)
        self._kept[key] = copy
        return copy


def _make(group: Weights) -> _Copy:
    whole = group[0].detach() if len(group) == 1 else torch.cat([weight.detach() for weight in group])
    return _Copy(onednn.lay_out(whole), _stamp(group), _size(group))


def _key(group: Weights) -> tuple[int, ...]:
    return tuple(map(id, group))


def _size(group: Weights) -> int:
    return sum(weight.numel() * weight.element_size() for weight in group)


def _stamp(group: Weights) -> tuple[object, ...]:
    """Differs where a weight has changed: by torch's own count, or in a sample, for changes through `.data`."""
    stamp: list[object] = []
    for weight in group:
        values = weight.detach().flatten()
        sample = values[:: max(1, values.numel() // 64)].double().sum().item()
        stamp += [weight.data_ptr(), weight.dtype, sample, 0 if weight.is_inference() else weight._version]
    return tuple(stamp)
