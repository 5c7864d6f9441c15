"""Cases derived by hand from the definition: lower case, no punctuation, no articles, single spaces; then tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.errors import DataError
from condition.evaluation.metrics import squad_v2


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("Paris", ["Paris"], 1, 1),
        ("  the PARIS. ", ["paris"], 1, 1),
        ("an apple a day", ["apple day"], 1, 1),
        ("theatre", ["atre"], 0, 0),  # an article is a word, not letters
        ("U.S.A.", ["usa"], 1, 1),
        ("well-known", ["wellknown"], 1, 1),  # a hyphen leaves no gap
        ("Paris", ["Rome"], 0, 0),
        ("in Paris", ["Paris"], 0, 2 / 3),  # precision 1/2, recall 1
        ("Paris", ["Paris in France"], 0, 1 / 2),  # precision 1, recall 1/3
        ("a b c d", ["b x c"], 0, 2 * (2 / 3) * (2 / 3) / (4 / 3)),  # b and c of `b c d` and `b x c`
        ("new new york", ["new york york"], 0, 2 / 3),  # each word counts as often as both have it
        ("york new", ["new york"], 0, 1),
        ("Paris", ["Rome", "in Paris", "Paris"], 1, 1),  # the best gold answer counts
        ("city of Paris", ["Paris France", "Rome"], 0, 2 * (1 / 3) * (1 / 2) / (5 / 6)),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("...", [], 1, 1),
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("a", ["the"], 1, 1),  # of both nothing is left
        ("x", ["the", "x"], 1, 1),
        ("", ["the", "x"], 0, 0),  # an answer of which nothing is left does not count beside another
        ("“Paris”", ["Paris"], 0, 0),  # only ASCII punctuation is taken away
        ("été", ["ÉTÉ"], 1, 1),
        ("a\u00a0b", ["b"], 1, 1),  # a hard space is white space
    ],
)
def test_squad_v2(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    assert squad_v2(prediction, answers) == {"exact": exact, "f1": pytest.approx(f1)}


texts = st.text(alphabet="abtheAN .,-\n'", max_size=12)


@given(texts, st.lists(texts, max_size=3))
def test_squad_v2_is_a_score(prediction: str, answers: list[str]) -> None:
    found = squad_v2(prediction, answers)
    assert 0 <= found["exact"] <= found["f1"] <= 1
    assert all(squad_v2(answer, [answer]) == {"exact": 1, "f1": 1} for answer in answers)
    assert found == squad_v2(prediction, answers[::-1])
    assert found == squad_v2(f" The {prediction}!", answers)


def test_one_string_is_not_taken_for_a_list_of_letters() -> None:
    assert squad_v2("Paris", "Paris") == {"exact": 1, "f1": 1}
    assert squad_v2("P", "Paris") == {"exact": 0, "f1": 0}


@pytest.mark.parametrize(("texts", "right"), [(["Paris", "in Paris"], "Paris"), ([], "")])
def test_the_answers_of_a_row_are_taken_as_they_are(texts: list[str], right: str) -> None:
    answers = {"text": texts, "answer_start": [3] * len(texts)}
    assert squad_v2(right, answers) == {"exact": 1, "f1": 1}
    assert squad_v2("text", answers) == {"exact": 0, "f1": 0}  # the names of its fields are no answers


@pytest.mark.parametrize(
    ("prediction", "answers"),
    [("x", None), ("x", [None]), ("x", [["x"]]), ("x", {"x": 1}), ("x", b"x"), (None, ["x"]), (["x"], ["x"])],
)
def test_what_is_no_text_is_refused(prediction: Any, answers: Any) -> None:
    with pytest.raises(DataError, match="squad_v2"):
        squad_v2(prediction, answers)
