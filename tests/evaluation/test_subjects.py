"""Several texts a row, and what a subject costs; how each kind of subject is asked is in test_evaluate.py."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from condition.errors import ModelError
from condition.evaluation.subjects import ask
from condition.evaluation.tasks import Reply, Task, TaskRow
from condition.types import Answer, Completion, Messages, Sampling, Usage
from tests.conftest import TinyModel

ROWS = [TaskRow(str(i), {"q": f"{i}?"}, "") for i in range(2)]


def measure(row: TaskRow, reply: Reply) -> dict[str, float]:
    return {"samples": float(len(reply.samples))}


TASK = Task("t", ROWS, measure=measure, prompt="{q}", sampling=Sampling(n=3, temperature=1.0, max_tokens=2, seed=0))


class Writer:
    name = "writer"

    def __init__(self, each: int = 3) -> None:
        self.each = each

    def generate(self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), **_: Any) -> Any:
        return [
            [Completion(f"{p[0].content}{i}", usage=Usage(output_tokens=1)) for i in range(self.each)] for p in prompts
        ]


class Counting:
    def __init__(self) -> None:
        self.number = itertools.count()

    def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
        return Answer(f"{inputs['q']}{next(self.number)}")

    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
        return [self.invoke(i) for i in inputs]


def test_as_many_texts_as_the_task_asks_for() -> None:
    said = ask(Writer(), TASK, ROWS)  # type: ignore[arg-type]  # keywords are taken as they come
    assert said.texts == ["0?0", "1?0"]
    assert said.samples == (("0?0", "0?1", "0?2"), ("1?0", "1?1", "1?2"))
    assert said.scores == (None, None)
    assert said.usage.output_tokens == 6


def test_a_chain_and_a_function_are_asked_again() -> None:
    chain, number = Counting(), itertools.count()
    assert ask(chain, TASK, ROWS).samples == (("0?0", "0?1", "0?2"), ("1?3", "1?4", "1?5"))
    said = ask(lambda inputs: str(next(number)), TASK, ROWS)
    assert said.samples == (("0", "1", "2"), ("3", "4", "5"))


def test_a_local_model_draws_from_one_prompt(tiny_model: TinyModel) -> None:
    said = ask(tiny_model(), TASK, ROWS)
    assert [len(row) for row in said.samples] == [3, 3]
    assert len(set(said.samples[0])) > 1


@pytest.mark.parametrize("each", [0, 2, 4])
def test_too_few_or_too_many(each: int) -> None:
    with pytest.raises(ModelError, match="gave completions for 0 of 2 prompts"):
        ask(Writer(each), TASK, ROWS)  # type: ignore[arg-type]


def test_answers_that_are_missing() -> None:
    class Short(Counting):
        def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
            return super().batch(inputs)[:-1]

    with pytest.raises(ModelError, match=r"Short\.batch gave 5 answers to 2 rows of 3 samples"):
        ask(Short(), TASK, ROWS)
