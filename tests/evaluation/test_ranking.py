from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condition.errors import DataError
from condition.evaluation.ranking import ELO, PRIOR, Game, bradley_terry


def test_two_systems_by_hand() -> None:
    """30 of 40 won: 75 %, so log odds of ln 3 but for the weak prior; its error is 1 / sqrt(40 * 0.75 * 0.25)."""
    order = bradley_terry([("a", "b", "first")] * 30 + [("b", "a", "first")] * 10)
    assert list(order.strengths) == ["a", "b"]
    assert order.probability("a", "b") == pytest.approx(0.75, abs=0.01)
    assert order.probability("a", "b") + order.probability("b", "a") == pytest.approx(1)
    best = order.strengths["a"]
    assert best.value == -order.strengths["b"].value
    assert 2 * best.value == pytest.approx(ELO * math.log(3), rel=0.02)
    error = ELO / math.sqrt(40 * 0.75 * 0.25) / 2
    assert best.high - best.value == pytest.approx(2.02 * error, rel=0.05)
    assert best.n == 40


def test_the_errors_of_few_clusters_by_hand() -> None:
    """Three questions of ten games, won 10, 9 and 1 times: 20 of 30. The sandwich of Liang & Zeger, times 3 / 2."""
    won = (10, 9, 1)
    games = [Game("a", "b", "first" if i < own else "second", q) for q, own in enumerate(won) for i in range(10)]
    order = bradley_terry(games)
    share, points = order.probability("a", "b"), order.strengths["a"]
    other = 1 / (1 + math.exp(points.value / ELO))  # against the average one of the prior; b's is the mirror image
    # Of a's strength alone, b's being its negative: two games' ends change with it.
    bread = 2 * (2 * 30 * share * (1 - share) + PRIOR * other * (1 - other))
    meat = sum((2 * (own - 10 * share)) ** 2 for own in won) * 3 / 2
    assert points.high - points.value == pytest.approx(4.30265 * ELO * math.sqrt(meat) / bread, rel=1e-4)


def test_a_tie_is_half_a_win_for_each() -> None:
    ties = bradley_terry([("a", "b", "tie")] * 20)
    assert ties.probability("a", "b") == pytest.approx(0.5)
    mixed = bradley_terry([("a", "b", "tie")] * 10 + [("a", "b", "first")] * 10)
    assert mixed.probability("a", "b") == pytest.approx(0.75, abs=0.02)


def test_one_that_always_wins_is_strong_and_uncertain() -> None:
    order = bradley_terry([("a", "b", "first")] * 20)
    best = order.strengths["a"]
    assert best.value > 0
    assert math.isfinite(best.high)
    assert best.high - best.low > 200
    assert order.probability("a", "b") < 1 - PRIOR / 100


def test_systems_that_never_met_are_ordered_through_others() -> None:
    met = [("a", "b", "first"), ("a", "b", "second"), ("a", "b", "first")] * 8
    order = bradley_terry([*met, *[("b", "c", "first")] * 9])
    assert list(order.strengths) == ["a", "b", "c"]
    assert order.probability("a", "c") > order.probability("a", "b")


def test_its_intervals_cover_the_truth() -> None:
    """Four systems, 40 questions on which all meet; a question that is odd turns all its games around."""
    numbers = np.random.default_rng(0)
    truth = np.array([0.8, 0.2, -0.3, -0.7])
    covered = 0
    for _ in range(150):
        games = []
        for question in range(40):
            for i, j in itertools.combinations(range(4), 2):
                won = numbers.random() < 1 / (1 + math.exp(truth[j] - truth[i]))
                games.append(Game("abcd"[i], "abcd"[j], "first" if won else "second", question))
        found = bradley_terry(games).strengths
        covered += sum(found["abcd"[i]].low <= ELO * truth[i] <= found["abcd"[i]].high for i in range(4))
    assert 0.93 <= covered / 600 <= 0.98


def test_games_of_one_question_are_one_observation() -> None:
    alone = bradley_terry([Game("a", "b", "first" if q % 3 else "second", (q, i)) for q in range(30) for i in range(5)])
    together = bradley_terry([Game("a", "b", "first" if q % 3 else "second", q) for q in range(30) for i in range(5)])
    width = together.strengths["a"].high - together.strengths["a"].low
    assert width > 1.8 * (alone.strengths["a"].high - alone.strengths["a"].low)
    assert together.strengths["a"].value == pytest.approx(alone.strengths["a"].value)


def test_a_game_without_a_verdict_is_counted_and_left_out() -> None:
    order = bradley_terry([("a", "b", "first"), ("a", "b", None), ("b", "a", "first")])
    assert order.unreadable == 1
    assert order.probability("a", "b") == pytest.approx(0.5)
    assert "1 unreadable" in str(order)


@pytest.mark.parametrize(
    ("games", "message"),
    [
        ([], "none of 0 games"),
        ([("a", "b", None)], "none of 1 games"),
        ([("a", "b", "a")], "the winner is 'a'; it is 'first', 'second', 'tie' or None"),
        ([("a", "a", "first")], "plays against itself"),
        ([("a", "b")], r"give \(first, second, winner\)"),
        ([5], r"give \(first, second, winner\)"),
        ([("a", "b", "tie"), ("c", "d", "tie")], r"never met.*a, b \| c, d"),
    ],
)
def test_games_that_can_not_be_ranked(games: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bradley_terry(games)


def test_a_system_that_did_not_play() -> None:
    with pytest.raises(DataError, match="no system 'z'; there are a, b"):
        bradley_terry([("a", "b", "tie")]).probability("a", "z")


def test_real_reviews(shared_data: Path) -> None:
    """GPT-4's reviews of Vicuna-13B against four others on Vicuna's 80 questions, of which 56 are here."""
    lines = (shared_data / "vicuna_bench" / "gpt4_pairwise_reviews.jsonl").read_text(encoding="utf-8").splitlines()
    games = []
    for review in map(json.loads, lines):
        one, other = review["score"]
        winner = "tie" if one == other else "first" if one > other else "second"
        readable = one >= 0 and other >= 0
        games.append(Game(review["model_1"], review["model_2"], winner if readable else None, review["question_id"]))
    order = bradley_terry(games)
    names = list(order.strengths)
    assert set(names[-2:]) == {"alpaca-13b", "llama-13b"}
    assert order.probability("vicuna-13b", "llama-13b") > 0.9
