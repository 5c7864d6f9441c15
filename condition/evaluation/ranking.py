"""Several systems in one order, from who beat whom.

    order = bradley_terry([("vicuna", "alpaca", "first"), ("alpaca", "bard", "tie"), …])
    print(order)                          # strengths in Elo points with 95 % intervals
    order.probability("vicuna", "bard")   # how often the one should win

Bradley & Terry 1952: the one wins with probability s / (s + t), where s and t are the strengths. A tie is half a win
for each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit  # type: ignore[import-untyped]  # scipy has no types

from condition.errors import DataError
from condition.evaluation.statistics import OUTSIDE, Estimate
from condition.types import Value

Winner = Literal["first", "second", "tie"]
Numbers = NDArray[np.float64]

ELO = 400 / np.log(10)
"""Elo points in a natural log of odds: 400 points are odds of 10 to 1."""
PRIOR = 0.5
"""Games, half of them won, that each system is taken to have played against an average one: so that one which won all
its games is not infinitely strong."""
_POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}


class Game(NamedTuple):
    """One comparison, and who won it. Games of one cluster, such as a question, are one observation."""

    first: str
    second: str
    winner: Winner | None
    """None where the judge could not be understood: counted, and left out."""
    cluster: Hashable | None = None


class Order(Value):
    """Systems by strength, best first. Strengths are Elo points around an average of 0."""

    strengths: Mapping[str, Estimate]
    """`n` is the number of games."""
    unreadable: int
    """Games without a winner that could be read."""

    def probability(self, first: str, second: str) -> float:
        """How often `first` should win, ties counted as half. Raises DataError for a system that did not play."""
        for name in (first, second):
            if name not in self.strengths:
                raise DataError(f"no system {name!r}; there are {', '.join(self.strengths)}")
        return float(expit((self.strengths[first].value - self.strengths[second].value) / ELO))

    def __str__(self) -> str:
        width = max(map(len, self.strengths))
        lines = [
            f"{name:{width}}  {s.value:+5.0f} [{s.low:+.0f}, {s.high:+.0f}]  n={s.n}"
            for name, s in self.strengths.items()
        ]
        return "\n".join([*lines, *([f"{self.unreadable} unreadable"] if self.unreadable else [])])


def bradley_terry(games: Iterable[Game | Sequence[object]]) -> Order:
    """Strengths with 95 % intervals by cluster-robust errors (Liang & Zeger 1986), or the model's own if larger.

    `games` are Games, or tuples (first, second, winner) or (first, second, winner, cluster). Raises DataError for no
    readable game, an unknown winner, a system against itself, and systems that no chain of games connects.
    """
    played = [_game(game, place) for place, game in enumerate(games)]
    readable = [game for game in played if game.winner is not None]
    if not readable:
        raise DataError(f"nothing to rank: none of {len(played)} games has a winner that could be read")
    names = list(dict.fromkeys(name for game in readable for name in (game.first, game.second)))
    _check_connected(names, readable)
    wins = _wins(readable, {name: i for i, name in enumerate(names)})
    logs, errors = _fitted(wins)
    half = float(stdtrit(max(1, len(wins) - 1), 1 - OUTSIDE)) * errors
    found = {
        name: Estimate(
            float(ELO * logs[i]),
            float(ELO * (logs[i] - half[i])),
            float(ELO * (logs[i] + half[i])),
            sum(name in (game.first, game.second) for game in readable),
        )
        for i, name in enumerate(names)
    }
    best_first = sorted(found, key=lambda name: -found[name].value)
    return Order(strengths={name: found[name] for name in best_first}, unreadable=len(played) - len(readable))


def _wins(games: Sequence[Game], place: Mapping[str, int]) -> Numbers:
    """Points of the row's system against the column's in each cluster `[clusters, systems, systems]`."""
    clusters: dict[Hashable, Numbers] = {}
    for number, game in enumerate(games):
        key = ("game", number) if game.cluster is None else ("cluster", game.cluster)
        points = clusters.setdefault(key, np.zeros((len(place), len(place))))
        one, other = place[game.first], place[game.second]
        points[one, other] += _POINTS[game.winner or "tie"]
        points[other, one] += 1 - _POINTS[game.winner or "tie"]
    return np.stack(list(clusters.values()))


def _fitted(clusters: Numbers) -> tuple[Numbers, Numbers]:
    """Log strengths `[systems]` of the most likely model, by Newton's method, and their standard errors."""
    wins = clusters.sum(axis=0)
    games = wins + wins.T
    logs = np.zeros(len(wins))
    for _ in range(100):
        expected, average = expit(logs[:, None] - logs[None, :]), expit(logs)
        gradient = (wins - games * expected).sum(axis=1) + PRIOR * (0.5 - average)
        weights = games * expected * (1 - expected)
        curvature = np.diag(weights.sum(axis=1) + PRIOR * average * (1 - average)) - weights
        step = np.linalg.solve(curvature, gradient)
        logs = logs + step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))  # no leap into the unknown
        if np.abs(step).max() < 1e-9:
            break
    count, systems = len(clusters), len(wins)
    centre = np.eye(systems) - 1 / systems
    spread = centre @ np.linalg.inv(curvature)
    scores = (clusters - (clusters + clusters.transpose(0, 2, 1)) * expected).sum(axis=2)  # [clusters, systems]
    robust = np.square(scores @ spread.T).sum(axis=0) * count / max(1, count - 1)
    own = np.diag(spread @ centre)
    return logs - logs.mean(), np.sqrt(np.maximum(robust, own))


def _game(game: Game | Sequence[object], place: int) -> Game:
    try:
        found = game if isinstance(game, Game) else Game(*game)  # type: ignore[arg-type]  # checked below
    except TypeError as error:
        raise DataError(f"game {place} is {game!r:.80}: give (first, second, winner)") from error
    if found.winner is not None and found.winner not in get_args(Winner):
        raise DataError(f"game {place}: the winner is {found.winner!r:.40}; it is 'first', 'second', 'tie' or None")
    if found.first == found.second:
        raise DataError(f"game {place}: {found.first!r} plays against itself")
    return found


def _check_connected(names: Sequence[str], games: Sequence[Game]) -> None:
    group = {name: name for name in names}

    def leader(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for game in games:
        group[leader(game.first)] = leader(game.second)
    apart: dict[str, list[str]] = {}
    for name in names:
        apart.setdefault(leader(name), []).append(name)
    if len(apart) > 1:
        groups = " | ".join(", ".join(found) for found in apart.values())
        raise DataError(f"these groups never met, so they have no common order: {groups}. Rank each group alone")
