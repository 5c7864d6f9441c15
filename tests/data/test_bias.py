"""Length, place and repetition in preferences, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from condition.data.bias import preference_bias
from condition.types import Ranking
from tests.data.test_preferences import judged


def test_length() -> None:
    found = preference_bias(
        [
            Ranking.pair({"q": 1}, "longer", "short"),
            Ranking.pair({"q": 2}, "longer", "short"),
            Ranking.pair({"q": 3}, "s", "longer"),
            Ranking.pair({"q": 4}, "abc", "xyz"),  # as long as each other: says nothing
        ]
    )
    assert found.longer_is_better is not None
    assert (found.longer_is_better.value, found.longer_is_better.count) == (pytest.approx(2 / 3), 3)
    # Wilson by hand: p = 2/3, n = 3, z = 1.96
    assert found.longer_is_better.low == pytest.approx(0.2077, abs=1e-3)
    assert found.longer_is_better.high == pytest.approx(0.9385, abs=1e-3)
    assert "longer is better        66.7 % of 3, by chance 50.0 %" in str(found)
    assert found.shown_first_is_best is None
    assert found.changed_with_order is None


def test_place() -> None:
    rows = [
        {"q": 1, "candidates": ["a", "b", "c"], "scores": [3, 2, 1]},
        {"q": 2, "candidates": ["a", "b"], "scores": [1, 2]},
        {"q": 3, "candidates": ["a", "b"], "scores": [2, 2]},  # a tie has no best
    ]
    found = preference_bias(rows)
    assert found.shown_first_is_best is not None
    assert (found.shown_first_is_best.value, found.shown_first_is_best.count) == (0.5, 2)
    assert found.shown_first_is_best.chance == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found.with_ties == 1


def test_place_of_a_candidate_that_stands_twice() -> None:
    (row,) = [{"q": 1, "candidates": ["b", "a", "a", "c"], "scores": [4, 5, 1, 2]}]
    found = preference_bias([row]).shown_first_is_best
    assert found is not None
    assert (found.value, found.chance) == (0.0, pytest.approx(1 / 3))


def test_a_judge_that_changes_with_the_order() -> None:
    found = preference_bias([judged("model_1", "model_1"), judged("model_1", "model_2"), judged("tie", "tie")])
    assert found.changed_with_order is not None
    assert (found.changed_with_order.value, found.changed_with_order.count) == (pytest.approx(1 / 3), 3)


def test_repetition() -> None:
    rows = [Ranking.pair({"q": 1}, "a", "b"), Ranking.pair({"q": 1}, "a", "b"), Ranking.pair({"q": 1}, "b", "a")]
    found = preference_bias([*rows, Ranking.pair({"q": 2}, "b", "a")])
    assert (found.repeated_prompts, found.repeated_rankings, found.contradictions) == (2, 1, 1)


def test_repetition_is_of_words() -> None:
    rows = [("Why?", "So  it is", "no"), ("why?", "so it is", "No"), ("WHY?", "no", "so it is"), ("why?", "Yes", "yes")]
    found = preference_bias([Ranking.pair({"q": q}, better, worse) for q, better, worse in rows])
    assert (found.repeated_prompts, found.repeated_rankings, found.contradictions) == (3, 1, 1)


def test_contradictions_of_all_earlier_pairs() -> None:
    """Only those the other way round count, whichever earlier ranking says them."""
    rows = [("a", "b", "c"), ("a", "b", "d"), ("d", "c"), ("c", "a"), ("d", "a")]
    found = preference_bias([Ranking({"q": 1}, candidates) for candidates in rows])
    assert (found.repeated_prompts, found.repeated_rankings, found.contradictions) == (4, 0, 2)


def test_some_candidates_are_tied() -> None:
    rows = [Ranking({"q": n}, ("a", "b", "c"), scores) for n, scores in enumerate([(3, 2, 2), (3, 2, 1), (1, 1, 1)])]
    assert preference_bias(rows).with_ties == 2


def test_real_judgments_prefer_length(shared_data: Path) -> None:
    by_gpt4 = preference_bias(shared_data / "alpaca_eval" / "gpt4_preferences.jsonl.gz").longer_is_better
    by_people = preference_bias(shared_data / "hh_rlhf" / "harmless_base_test.jsonl.gz").longer_is_better
    assert by_gpt4 is not None
    assert by_people is not None
    assert by_gpt4.low > 0.7
    assert by_people.high < 0.5
