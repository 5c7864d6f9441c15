"""Stopping early without fooling oneself: a test that may be looked at after every row.

    race = Race(("few-shot", "LoRA"), alpha=0.05)
    race.add({"few-shot": 0.0, "LoRA": 1.0})             # one cluster of rows
    race.worse()                                         # {"few-shot": "LoRA"} once that is sure

A test that is looked at again and again until it says yes is wrong far more often than its level. A bet is not: a
fortune that starts at 1 and grows only if a subject is worse reaches k in at most 1 of k runs in which it is not,
however often one looks (Ville 1939). Waudby-Smith & Ramdas 2024, arXiv 2010.09686.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import final

import numpy as np

STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Shares of the fortune that are bet side by side: small ones find small differences, large ones large ones soon."""


@final
class Bet:
    """A bet that the mean of numbers between -1 and 1 is below 0.

    Its fortune is the mean over `STAKES` of the product of (1 - stake * x): while the true mean is 0 or more, no bet
    can be expected to grow.
    """

    def __init__(self) -> None:
        self._logs = np.zeros(len(STAKES))

    def add(self, x: float) -> None:
        """Play one round. Raises ValueError for a number outside -1 to 1, against which no bet is fair."""
        if not -1 <= x <= 1:
            raise ValueError(f"{x} is not between -1 and 1")
        self._logs += np.log1p(-np.asarray(STAKES) * x)

    @property
    def fortune(self) -> float:
        """The natural log of it."""
        top = float(self._logs.max())
        return top + math.log(float(np.exp(self._logs - top).mean()))


@final
class Race:
    """Who is surely worse than another one. Any wrong answer, at any time, has a probability of at most `alpha`.

    Every ordered pair has a bet of its own and `alpha` shared among all of them. Rounds are independent draws: clusters
    of rows in random order. Nobody asks whether the one that `stays` is worse.
    """

    def __init__(self, names: Sequence[str], alpha: float = 0.05, stays: str | None = None) -> None:
        pairs = [pair for pair in permutations(names, 2) if pair[0] != stays]
        self._bets = {pair: Bet() for pair in pairs}
        self._enough = math.log(max(1, len(pairs)) / alpha)
        self._worse: dict[str, str] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """One round: a number from 0 to 1 for each one that is still in."""
        for (one, other), bet in self._bets.items():
            if one not in values or other not in values or one in self._worse:
                continue
            bet.add(values[one] - values[other])
            if bet.fortune >= self._enough:
                self._worse[one] = other

    def worse(self) -> dict[str, str]:
        """Those that are surely worse, each with one that is better."""
        return dict(self._worse)
