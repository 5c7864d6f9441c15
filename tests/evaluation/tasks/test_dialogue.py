"""Open questions, one turn and several, rated by a judge that reads many replies in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condition.errors import DataError, ModelError, SettingsError
from condition.evaluation import tasks
from condition.evaluation.compare import compare
from condition.evaluation.evaluate import evaluate
from condition.evaluation.judge import PairwiseJudge, Rating, RubricJudge
from condition.protocols import Control
from condition.types import Completion, Messages, Sampling

QUESTIONS: list[dict[str, Any]] = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question": "Why?", "category": "reasoning"},
    {"prompt": "Say nothing."},
]
REPLIES = {"Write.": "four", "Again.": "ten. ten..", "Why?": "because.", "Say nothing.": ""}


def reply(inputs: Any) -> str:
    return REPLIES[inputs["question"]]


class Rubric:
    """Rates by length, and has no verdict on what is empty."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, str]]] = []

    def rate(self, answers: Sequence[tuple[str, str]], /) -> list[Rating]:
        self.calls.append(list(answers))
        return [Rating(points=float(len(answer)) if answer else None, reply="") for _, answer in answers]


class Reader:
    """A model that rates what it is shown."""

    name = "reader"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        self.calls.append([messages[-1].content for messages in prompts])
        return [[Completion("[[8]]" if "because" in shown else "no idea")] for shown in self.calls[-1]]


@pytest.mark.parametrize("judge", [Rubric(), lambda question, answer: len(answer) or None])
def test_dialogue(judge: Any) -> None:
    task = tasks.dialogue(QUESTIONS, judge)
    found = evaluate(reply, task).metrics
    assert found["rating"].value == pytest.approx((4 + 10 + 8) / 3)  # of those that were rated
    assert (found["rating_turn_1"].value, found["rating_turn_2"].value) == (6, 10)
    assert (found["rating_writing"].value, found["rating_reasoning"].value) == (7, 8)
    assert found["unrated"].value == pytest.approx(1 / 3)
    assert found["unrated_writing"].value == 0
    assert [row.id for row in task.rows] == ["81", "row 1", "row 2"]


def test_a_judge_reads_all_replies_in_one_call_and_each_once() -> None:
    """Also where the subject is a function, which is asked row by row."""
    judge = Rubric()
    task = tasks.dialogue(QUESTIONS, judge)
    evaluate(reply, task)
    evaluate(reply, task)
    assert [len(call) for call in judge.calls] == [4]
    assert judge.calls[0][:2] == [
        ("Write.", "four"),
        ("User:\nWrite.\n\nAssistant:\nfour\n\nUser:\nAgain.", "ten. ten.."),
    ]


def test_more_rows_than_are_measured_together() -> None:
    judge = Rubric()
    rows = [{"question": f"Q{i}"} for i in range(130)]
    assert evaluate(lambda inputs: inputs["question"], tasks.dialogue(rows, judge)).metrics["rating"].n == 130
    assert [len(call) for call in judge.calls] == [64, 64, 2]


def test_a_rubric_judge() -> None:
    reader = Reader()
    found = evaluate(reply, tasks.dialogue(QUESTIONS, RubricJudge(reader), turns=1)).metrics
    assert (found["rating"].value, found["unrated"].value) == (8, pytest.approx(2 / 3))
    assert len(reader.calls) == 1


def test_the_first_turn_only() -> None:
    task = tasks.dialogue(QUESTIONS, Rubric(), turns=1)
    assert not any(row.then for row in task.rows)
    found = evaluate(reply, task).metrics
    assert found["rating"].value == 6
    assert "rating_turn_1" not in found


@pytest.mark.parametrize("points", [None, float("nan"), float("inf")])
def test_a_judge_without_any_verdict_is_counted_and_never_guessed(points: float | None) -> None:
    task = tasks.dialogue(QUESTIONS, lambda question, answer: points)
    found = evaluate(reply, task)
    assert found.metrics["unrated"].value == 1
    assert "rating" in str(found)
    table = compare({"one": reply, "other": lambda inputs: "x"}, task)
    assert (table["other"].p, table["other"].p_corrected) == (None, None)
    assert "nan" not in f"{table}{table.to_html()}"
    table.plot()


def test_one_rating_says_nothing_about_others() -> None:
    judge = lambda question, answer: 3.0 if question == "Why?" else None  # noqa: E731
    table = compare({"one": reply, "other": lambda inputs: "x"}, tasks.dialogue(QUESTIONS, judge))
    assert (table["one"].score.low, table["one"].score.high) == (-float("inf"), float("inf"))
    assert table["other"].p == 1
    assert "nan" not in str(table)


def test_a_judge_that_gives_no_number() -> None:
    with pytest.raises(DataError, match="the judge gave 'good', not a number"):
        evaluate(lambda inputs: "x", tasks.dialogue([{"question": "?"}], lambda q, a: "good"))  # type: ignore[arg-type, return-value]


def test_a_judge_that_rates_others_than_were_asked() -> None:
    class Short:
        def rate(self, answers: Any, /) -> list[Rating]:
            return []

    with pytest.raises(ModelError, match="gave 0 ratings of 1 answers"):
        evaluate(lambda inputs: "x", tasks.dialogue([{"question": "?"}], Short()))


@pytest.mark.parametrize("rows", [[{"turns": ["One?", " "]}], [{"turns": [" "]}]])
def test_empty_turns(rows: Any) -> None:
    with pytest.raises(DataError, match="the question is empty"):
        tasks.dialogue(rows, Rubric())


def test_no_turns() -> None:
    with pytest.raises(SettingsError, match="turns=0"):
        tasks.dialogue(QUESTIONS, Rubric(), turns=0)


def test_real_questions(shared_data: Path) -> None:
    task = tasks.dialogue(shared_data / "mt_bench" / "question.jsonl", lambda q, a: 1.0)
    assert len(task.rows) == 57
    assert all(len(row.then) == 1 for row in task.rows)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_judge_that_failed_is_not_asked_once_more(error: type[BaseException]) -> None:
    class Failing:
        calls = 0

        def rate(self, answers: Sequence[tuple[str, str]], /) -> list[Rating]:
            self.calls += 1
            raise error("stop")

    judge = Failing()
    with pytest.raises(error):
        evaluate(lambda inputs: "Yes.", tasks.dialogue([{"question": str(n)} for n in range(70)], judge))
    assert judge.calls == 1


def test_ratings_are_numbers_of_any_kind() -> None:
    found = evaluate(reply, tasks.dialogue(QUESTIONS[1:2], lambda question, answer: np.float32(3)))  # type: ignore[arg-type, return-value]
    assert found.metrics["rating"].value == 3


@pytest.mark.parametrize("judge", [PairwiseJudge(Reader()), lambda answer: 1.0, "a judge", None])
def test_what_rates_no_answers_is_refused_before_a_model_is_asked(judge: Any) -> None:
    with pytest.raises(SettingsError, match="rates no answers: give a RubricJudge, or a function of question and ans"):
        tasks.dialogue(QUESTIONS, judge)
