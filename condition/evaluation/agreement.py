"""How far two who label the same things agree, beyond what chance would give: a judge and people, for example.

found = agreement(["first", "tie", "second"], ["first", "second", "second"])
print(found.share, found.kappa)
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt

from scipy.special import ndtri  # type: ignore[import-untyped]  # scipy has no types

from condition.errors import DataError
from condition.evaluation.statistics import OUTSIDE, Estimate, estimate
from condition.types import Value


class Agreement(Value):
    """How often two agree, and Cohen's kappa: 1 for always, 0 for as often as by chance."""

    share: Estimate
    kappa: Estimate
    unreadable: int = 0
    """Labels that are None, which count neither way."""

    def __str__(self) -> str:
        left_out = f", {self.unreadable} unreadable" if self.unreadable else ""
        kappa = f"{self.kappa.value:.2f} [{self.kappa.low:.2f}, {self.kappa.high:.2f}]"
        return f"agree {self.share} %, kappa {kappa}, n={self.share.n}{left_out}"


def agreement(one: Sequence[Hashable | None], other: Sequence[Hashable | None]) -> Agreement:
    """Agreement of labels of the same things; None is a label that could not be read.

    Cohen 1960, doi 10.1177/001316446002000104; the 95 % interval of Fleiss, Cohen & Everitt 1969,
    doi 10.1037/h0028106. Raises DataError for different numbers of labels, and where nothing is left.
    """
    if len(one) != len(other):
        raise DataError(f"{len(one)} labels beside {len(other)}: agreement needs two labels for each thing")
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not pairs:
        raise DataError(f"no labels to compare: of {len(one)} pairs, each lacks a readable label")
    share = estimate([float(a == b) for a, b in pairs], bounds=(0.0, 1.0))
    return Agreement(share=share, kappa=_kappa(pairs, share), unreadable=len(one) - len(pairs))


def _kappa(pairs: Sequence[tuple[Hashable, Hashable]], share: Estimate) -> Estimate:
    count = len(pairs)
    labels = list(dict.fromkeys(label for pair in pairs for label in pair))
    rows = {label: sum(a == label for a, _ in pairs) / count for label in labels}
    columns = {label: sum(b == label for _, b in pairs) / count for label in labels}
    agreed = share.value
    chance = sum(rows[label] * columns[label] for label in labels)
    if chance == 1:  # both give one label to everything: there is nothing that kappa could tell
        return Estimate(0.0, -1.0, 1.0, count)
    kappa = (agreed - chance) / (1 - chance)
    if agreed == 1:  # no disagreement was seen; the share says how many may well be there
        return Estimate(1.0, (share.low - chance) / (1 - chance), 1.0, count)
    spread = (
        sum(((1 - chance) * (a == b) - (columns[a] + rows[b]) * (1 - agreed)) ** 2 for a, b in pairs) / count
        - (agreed * chance - 2 * chance + agreed) ** 2
    )
    half = float(ndtri(1 - OUTSIDE)) * sqrt(max(0.0, spread) / count) / (1 - chance) ** 2
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), count)
