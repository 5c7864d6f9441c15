"""Preferences by hand: log-probabilities, lengths and leanings are chosen so that each rule prefers another choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from condition.errors import DataError
from condition.evaluation.metrics import Choices, by_chars, by_tokens, calibrated, likeliest, pmi, read_choice
from condition.types import Score

TEXTS = ("no", "in the year 1784", "by the mayor")


def scores(*logprobs: float, tokens: tuple[int, ...] = (1, 1, 1)) -> list[Score]:
    return [Score(logprob, n, len(text)) for logprob, n, text in zip(logprobs, tokens, TEXTS, strict=True)]


def test_each_rule_by_hand() -> None:
    choices = Choices(TEXTS, scores(-3.0, -8.0, -7.0, tokens=(1, 5, 7)))
    assert likeliest(choices) == 0  # -3
    assert by_chars(choices) == 1  # -3/2, -8/16, -7/12
    assert by_tokens(choices) == 2  # -3/1, -8/5, -7/7
    assert pmi(choices, scores(-1.0, -9.0, -6.0)) == 1  # -2, +1, -1


def test_calibration_by_hand() -> None:
    """The prompt answers "no" to everything; a row on which it does so less is no "no"."""
    own = [math.log(p) for p in (0.6, 0.3, 0.1)]
    empty = [[math.log(p) for p in (0.8, 0.1, 0.1)], [math.log(p) for p in (0.9, 0.05, 0.05)]]
    choices = Choices(TEXTS, scores(*own))
    # 0.6/0.85, 0.3/0.075, 0.1/0.075
    assert likeliest(choices) == 0
    assert calibrated(choices, [scores(*row) for row in empty]) == 1
    shifted = Choices(TEXTS, scores(*(value - 50 for value in own)))  # only the share among the choices counts
    assert calibrated(shifted, [scores(*row) for row in empty]) == 1


def test_signs_are_counted_not_bytes() -> None:
    """-6/2 and -5/4 a sign; of bytes the first has six and would win with -1 against -1.25."""
    choices = Choices(("是的", "nope"), [Score(-6.0, 2, 2), Score(-5.0, 2, 4)])
    assert by_chars(choices) == 1


def test_calibration_takes_the_mean_of_probabilities() -> None:
    """Means 0.533 and 0.467; geometric ones, 0.448 and 0.079, would make b of 0.8 against 0.2."""

    def told(row: Sequence[float]) -> list[Score]:
        return [Score(math.log(p), 1, 1) for p in row]

    uneven = [(0.999, 0.001), (0.3, 0.7), (0.3, 0.7)]
    assert calibrated(Choices(("a", "b"), told((0.8, 0.2))), [told(row) for row in uneven]) == 0


def test_the_first_of_equals() -> None:
    assert likeliest(Choices(TEXTS, scores(-2.0, -1.0, -1.0))) == 1
    assert likeliest(Choices(TEXTS, scores(float("-inf"), -1e9, float("-inf")))) == 1


@pytest.mark.parametrize(
    ("text", "choices", "place"),
    [
        ("B", "ABCD", 1),
        ("The answer is (C).", "ABCD", 2),
        ("A good question", "ABCD", None),
        ("b", "ABCD", 1),
        ("positive", ("positive", "negative"), 0),
        ("Negative.", ("positive", "negative"), 1),
        ("I'd say it is negative", ("positive", "negative"), 1),
        ("positive or negative", ("positive", "negative"), 0),  # begins with one
        ("it is positive, or negative", ("positive", "negative"), None),
        ("New York City", ("New York", "New York City"), 1),
        ("unpositively", ("positive", "negative"), None),
        ("", ("positive", "negative"), None),
        ("in the year 1784, it says", TEXTS, 1),
        ("Nothing is sure, but yes", ("yes", "no"), 0),
        ("nothing", ("yes", "no"), None),
        ("No, thanks.", ("yes", "no"), 1),
        ("13 apples", ("1", "12"), None),
        ("12 apples", ("1", "12"), 1),
        ("正面的", ("正面", "负面"), 0),
        ("这是负面的", ("正面", "负面"), 1),
        ("🙂🙂", ("🙂", "no"), 0),
        ("C++, I think", ("C", "C++"), 1),
    ],
)
def test_reading_a_written_choice(text: str, choices: tuple[str, ...], place: int | None) -> None:
    assert read_choice(text, choices) == place


def test_bad_input() -> None:
    with pytest.raises(DataError, match="3 choices and 2 scores"):
        likeliest(Choices(TEXTS, scores(-1.0, -2.0, -3.0)[:2]))
    with pytest.raises(DataError, match="log-probability that is no number"):
        by_chars(Choices(TEXTS, scores(-1.0, float("nan"), -3.0)))
    with pytest.raises(DataError, match="no number"):
        pmi(Choices(TEXTS, scores(-1.0, -2.0, -3.0)), scores(-1.0, float("nan"), -3.0))
    with pytest.raises(DataError, match="at least one prompt without content"):
        calibrated(Choices(TEXTS, scores(-1.0, -2.0, -3.0)), [])
    with pytest.raises(DataError, match="0 choices"):
        likeliest(Choices((), ()))
