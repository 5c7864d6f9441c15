"""SQuAD's own file: what is broken in it is named by article, paragraph and question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condition.data import read
from condition.data.nested import squad_paragraphs
from condition.errors import DataError
from condition.evaluation import tasks

ANSWER = {"text": "Ada", "answer_start": 0}


def squad(*questions: dict[str, Any]) -> list[Any]:
    return [{"title": "T", "paragraphs": [{"context": "Ada wrote.", "qas": list(questions)}]}]


def question(**parts: Any) -> dict[str, Any]:
    return {"id": "q7", "question": "Who?", "answers": [ANSWER], **parts}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (5, "'data' is int, not a list"),
        (["article"], "article 0 is str, not an object with 'paragraphs'"),
        (
            [{"q": "x", "target": "a"}],
            "article 0 has no 'paragraphs', only 'q', 'target'. Rows that are no SQuAD are a list of their own, "
            "without 'data'",
        ),
        ([{"paragraphs": {}}], "article 0: 'paragraphs' is dict, not a list"),
        ([{"paragraphs": [{"context": "c"}]}], "article 0, paragraph 0 has no 'qas', only 'context'"),
        (
            squad(question(), {"id": "q8", "question": "Why?"}),
            "article 0, paragraph 0, question 1 (id 'q8') has no 'answers', only 'id', 'question'",
        ),
        (squad(question(answers=None)), "article 0, paragraph 0, question 0 (id 'q7'): 'answers' is NoneType"),
        (squad(question(answers=[{"text": "Ada"}])), "question 0 (id 'q7'), answer 0 has no 'answer_start'"),
    ],
)
def test_what_is_missing_is_named_with_its_place(data: object, said: str) -> None:
    with pytest.raises(DataError) as caught:
        list(squad_paragraphs(data, "dev.json"))
    assert str(caught.value).startswith("dev.json: looks like SQuAD but breaks its schema: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"is_impossible": True}, r"has the answer 'Ada' and says 'is_impossible' too: take the answer out"),
        (
            {"is_impossible": False, "answers": []},
            r"has no answer, but 'is_impossible' is false: were the answers taken",
        ),
        ({"is_impossible": False, "answers": [{"text": " ", "answer_start": 0}]}, "has no answer, but"),
    ],
)
def test_an_answer_that_is_there_and_is_said_not_to_be(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": squad(question(is_impossible=False), question(**parts))}))
    for reader in (read, tasks.squad_v2):
        with pytest.raises(DataError, match=rf"dev\.json: question 1 of article 0, paragraph 0 \(id 'q7'\) {said}"):
            reader(path)


def test_what_only_looks_like_an_answer_is_none() -> None:
    (example,) = read({"data": squad(question(answers=[], is_impossible=True, plausible_answers=[ANSWER]))})
    assert example.target == "unanswerable"
    (example,) = read({"data": squad(question(answers=[]))})  # the first version of SQuAD says nothing of it
    assert example.target == "unanswerable"
