from __future__ import annotations

from typing import Any

import pytest

from condition.errors import DataError
from condition.evaluation.evaluate import evaluate
from condition.evaluation.metrics import exact_match
from condition.evaluation.tasks import Pooled, Reply, Task, TaskRow
from condition.types import Score

ROW = TaskRow("1", {"q": "x"}, "y")


def test_a_task_of_ones_own_in_a_few_lines() -> None:
    rows = [TaskRow("1", {"question": "2 + 2?"}, "4"), TaskRow("2", {"question": "3 + 4?"}, "7")]
    task = Task("sums", rows, exact_match, prompt="{question}")
    assert evaluate(lambda inputs: "4", task).metrics["exact"].value == 0.5
    assert not task.scored
    assert repr(task) == "Task('sums', 2 rows)"


def test_a_row_without_a_cluster_is_its_own() -> None:
    task = Task("t", [ROW, TaskRow("2", {}, "", "passage")], exact_match, prompt="{q}")
    assert [row.cluster for row in task.rows] == ["1", "passage"]


def test_a_measure_sees_the_whole_row_and_reply() -> None:
    seen: list[tuple[TaskRow, Reply]] = []

    def measure(row: TaskRow, reply: Reply) -> dict[str, float]:
        seen.append((row, reply))
        return {"one": 1.0}

    task = Task("t", [ROW], measure=measure, prompt="{q}")
    scores = (Score(-1.0, 1, 1),)
    assert task.measure(ROW, "text", scores, ("text", "other")) == {"one": 1.0}
    assert seen == [(ROW, Reply("text", scores, ("text", "other")))]
    with pytest.raises(DataError, match=r"call task\.measure"):
        task.metric("text", "y")


def test_a_pooled_measure() -> None:
    rows = [TaskRow(str(i), {"i": i}, "", "") for i in range(4)]
    pooled = {"words per text": Pooled(lambda row, reply: (len(reply.text.split()), 1), lambda sums: sums[0] / sums[1])}
    task = Task("t", rows, lambda said, target: {"one": 1.0}, prompt="{i}", pooled=pooled)
    found = evaluate(lambda inputs: "word " * (inputs["i"] + 1), task).metrics["words per text"]
    assert found.value == pytest.approx(2.5)
    assert found.low < 2.5 < found.high


@pytest.mark.parametrize(
    ("rows", "keywords", "said"),
    [
        ([], {}, "the task t has no rows"),
        ([ROW], {"metric": None}, "needs a metric"),
        ([ROW], {"measure": lambda row, reply: {}}, "needs a metric"),
        ([ROW, ROW._replace(id="2", choices=("a", "b"))], {}, "row 2 and row 1: one has choices, the other has none"),
        ([ROW._replace(choices=("a", ""))], {}, "row 1: choices are texts, none of them empty"),
        ([ROW._replace(choices="ab")], {}, "choices are texts"),
    ],
)
def test_bad_input(rows: Any, keywords: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Task("t", rows, **{"metric": exact_match, "prompt": "{q}", **keywords})
