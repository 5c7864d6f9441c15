"""What is watched beside the loss, added up between two log lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor


@final
class Watched:
    """Means of what was measured since they were last taken, apart for training and validation."""

    def __init__(self) -> None:
        self._sums: dict[bool, dict[str, tuple[float, int]]] = {True: {}, False: {}}

    def add(self, values: Mapping[str, Tensor], *, training: bool) -> None:
        """Count the values of a batch."""
        sums = self._sums[training]
        for name, value in values.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + float(value.detach().float().sum()), count + value.numel()

    def take(self, *, training: bool) -> dict[str, tuple[float, int]]:
        """Sum and count of each, which begin anew."""
        taken, self._sums[training] = self._sums[training], {}
        return taken
