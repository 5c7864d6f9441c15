from __future__ import annotations

import pytest

from condition.data.formats import NO_ANSWER, is_abstention, is_squad, squad_answers, squad_example
from condition.errors import DataError

ROW = {"id": 3, "context": "c", "question": "q", "answers": {"text": ["a", "b"], "answer_start": [0, 1]}}


@pytest.mark.parametrize("missing", ["context", "question", "answers"])
def test_squad_is_known_by_its_three_columns(missing: str) -> None:
    assert is_squad(ROW)
    assert not is_squad({name: value for name, value in ROW.items() if name != missing})


@pytest.mark.parametrize(
    ("answers", "texts"),
    [
        ({"text": ["a", "b"], "answer_start": [0, 1]}, ("a", "b")),
        ({"text": []}, ()),
        (["a"], ("a",)),
        ((), ()),
    ],
)
def test_gold_answers(answers: object, texts: tuple[str, ...]) -> None:
    assert squad_answers({**ROW, "answers": answers}, "here") == texts


@pytest.mark.parametrize("answers", ["a", None, 5, {"texts": ["a"]}, {"text": "a"}, {"text": [None]}, [{"text": "a"}]])
def test_other_answers_are_refused_with_their_place(answers: object) -> None:
    with pytest.raises(DataError, match=r"here: 'answers' should be"):
        squad_answers({**ROW, "answers": answers}, "here")


def test_the_first_gold_answer_is_the_target() -> None:
    example = squad_example(ROW, "here")
    assert (dict(example.inputs), example.target, example.id) == ({"context": "c", "question": "q"}, "a", "3")


def test_no_gold_answer_is_taught_as_words() -> None:
    assert squad_example({**ROW, "answers": {"text": []}}, "here").target == NO_ANSWER


def test_an_empty_gold_answer_is_no_answer() -> None:
    assert squad_example({**ROW, "answers": {"text": ["  "]}}, "here").target == NO_ANSWER


@pytest.mark.parametrize("text", [NO_ANSWER, "UNANSWERABLE", "'unanswerable'", ' "Unanswerable." ', "", "  "])
def test_abstentions(text: str) -> None:
    assert is_abstention(text)
    assert not is_abstention(f"{text} x")
