from __future__ import annotations

import numpy
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
        ("a", ("a",)),
        ("[1] and {2}", ("[1] and {2}",)),
        ("", ()),
        (" ", ()),
        ({"text": numpy.array(["a", "b"], dtype=object)}, ("a", "b")),
        ((), ()),
    ],
)
def test_gold_answers(answers: object, texts: tuple[str, ...]) -> None:
    assert squad_answers({**ROW, "answers": answers}, "here") == texts


@pytest.mark.parametrize("answers", [None, 5, {"texts": ["a"]}, {"text": "a"}, {"text": [None]}, [{"text": "a"}]])
def test_other_answers_are_refused_with_their_place(answers: object) -> None:
    with pytest.raises(DataError, match=r"here: 'answers' should be .*, a list of strings, or one string"):
        squad_answers({**ROW, "answers": answers}, "here")


@pytest.mark.parametrize(
    "cell",
    [
        "{'text': ['a'], 'answer_start': [0]}",
        '{"answer_start": [0], "text": ["a"]}',
        "['a', 'b']",
        '["a"]',
        "[]",
        " [ ]",
    ],
)
def test_a_list_that_was_printed_into_a_cell_is_no_answer(cell: str) -> None:
    with pytest.raises(DataError, match=r"here: 'answers' is a list or dictionary printed into a cell.*JSON lines"):
        squad_answers({**ROW, "answers": cell}, "here")


def test_the_first_gold_answer_is_the_target() -> None:
    example = squad_example(ROW, "here")
    assert (dict(example.inputs), example.target, example.id) == ({"context": "c", "question": "q"}, "a", "3")


def test_no_gold_answer_is_taught_as_words() -> None:
    assert squad_example({**ROW, "answers": {"text": []}}, "here").target == NO_ANSWER


def test_an_empty_gold_answer_is_no_answer() -> None:
    assert squad_example({**ROW, "answers": {"text": ["  "]}}, "here").target == NO_ANSWER


@pytest.mark.parametrize("flag", [True, "True", "true ", 1, 1.0, numpy.True_])
def test_an_answer_where_there_should_be_none_is_refused(flag: object) -> None:
    with pytest.raises(DataError, match="here: the row with the id 3 has the answer 'a' and says 'is_impossible' too"):
        squad_answers({**ROW, "is_impossible": flag}, "here")
    assert squad_answers({**ROW, "answers": [" "], "is_impossible": flag}, "here") == ()


@pytest.mark.parametrize("flag", [False, "False", "0", 0, 0.0, numpy.False_])
def test_no_answer_where_there_should_be_one_is_refused(flag: object) -> None:
    with pytest.raises(DataError, match="here: the row with the id 3 has no answer, but 'is_impossible' is false"):
        squad_answers({**ROW, "answers": {"text": []}, "is_impossible": flag}, "here")
    assert squad_answers({**ROW, "is_impossible": flag}, "here") == ("a", "b")


@pytest.mark.parametrize("flag", [None, "", float("nan")])
def test_where_nothing_is_said_of_it_the_answers_count(flag: object) -> None:
    assert squad_answers({**ROW, "is_impossible": flag}, "here") == ("a", "b")
    assert squad_answers({**ROW, "answers": [], "is_impossible": flag}, "here") == ()


@pytest.mark.parametrize("text", [NO_ANSWER, "UNANSWERABLE", "'unanswerable'", ' "Unanswerable." ', "", "  "])
def test_abstentions(text: str) -> None:
    assert is_abstention(text)
    assert not is_abstention(f"{text} x")
