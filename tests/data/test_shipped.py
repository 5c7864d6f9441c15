from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

from condition.data import NO_ANSWER, read, sample
from condition.data.formats import is_squad
from condition.errors import DataError

TRAIN, VALIDATION = sample("train"), sample("validation")
ALL = [*TRAIN, *VALIDATION]


def kinds(split: str) -> set[str]:
    content = files("condition.data").joinpath("sample", f"{split}.json").read_text(encoding="utf-8")
    return {article["kind"] for article in json.loads(content)["data"]}


def test_counts() -> None:
    assert (len(TRAIN), len(VALIDATION)) == (480, 120)


def test_rows_are_squad_with_unique_ids() -> None:
    assert all(is_squad(row) for row in ALL)
    assert len({row["id"] for row in ALL}) == len(ALL)


def test_answers_stand_where_they_say() -> None:
    for row in ALL:
        answers = row["answers"]
        assert len(answers["text"]) == len(answers["answer_start"])
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            assert text.strip() == text != ""
            assert row["context"][start : start + len(text)] == text, row["id"]


@pytest.mark.parametrize("rows", [TRAIN, VALIDATION], ids=["train", "validation"])
def test_about_a_third_has_no_answer(rows: list[dict[str, Any]]) -> None:
    share = sum(not row["answers"]["text"] for row in rows) / len(rows)
    assert 0.25 <= share <= 0.45


def test_the_splits_share_nothing() -> None:
    for column in ("context", "question", "title"):
        assert not {row[column] for row in TRAIN} & {row[column] for row in VALIDATION}, column


def test_the_kinds_of_passages_are_disjoint() -> None:
    assert len(kinds("train")) > 3
    assert len(kinds("validation")) > 3
    assert not kinds("train") & kinds("validation")


def test_no_question_twice_on_a_passage() -> None:
    assert max(Counter((row["context"], row["question"]) for row in ALL).values()) == 1


def test_the_words_for_no_answer_are_in_no_passage() -> None:
    assert not any(NO_ANSWER in row["context"].lower() for row in ALL)


def test_rows_read_as_examples() -> None:
    assert [e.id for e in read(TRAIN)] == [row["id"] for row in TRAIN]


def test_an_unknown_split_is_an_error() -> None:
    with pytest.raises(DataError, match="no such file"):
        sample("test")  # type: ignore[arg-type]
