from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condition.data import NO_ANSWER, sample
from condition.errors import DataError
from condition.evaluation import tasks
from condition.evaluation.tasks import SQUAD_PROMPT, Task, TaskRow
from condition.types import Example

ROWS: list[dict[str, Any]] = [
    {"id": "1", "title": "T", "context": "Ada wrote.", "question": "Who?", "answers": {"text": ["Ada", "Ada L."]}},
    {"id": "2", "title": "T", "context": "Ada wrote.", "question": "Why?", "answers": {"text": []}},
]


def test_squad_rows() -> None:
    task = tasks.squad_v2(ROWS)
    inputs = {"title": "T", "context": "Ada wrote.", "question": "Who?"}
    assert task.rows[0] == TaskRow("1", inputs, ("Ada", "Ada L."), "Ada wrote.")
    assert [row.target for row in task.rows] == [("Ada", "Ada L."), ()]
    assert [tuple(task.splits(row)) for row in task.rows] == [("answerable",), ("unanswerable",)]
    assert task.constants == (NO_ANSWER,)
    assert (task.sampling.max_tokens, task.sampling.temperature) == (32, 0.0)
    assert repr(task) == "Task('squad_v2', 2 rows)"


def test_a_path_and_examples_give_the_same_questions(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    assert tasks.squad_v2(path).rows == tasks.squad_v2(ROWS).rows
    examples = [Example({"context": "c", "question": "q"}, "a", id="9"), Example({"context": "c"}, NO_ANSWER)]
    rows = tasks.squad_v2(examples).rows
    assert rows[0] == TaskRow("9", {"context": "c", "question": "q"}, ("a",), "c")
    assert (rows[1].id, rows[1].target) == ("row 1", ())


@pytest.mark.parametrize(
    ("prediction", "target", "exact"),
    [
        ("Ada", ("Ada",), 1),
        (NO_ANSWER, (), 1),
        (" Unanswerable. ", (), 1),
        ("", (), 1),
        ("Ada", (), 0),
        (NO_ANSWER, ("Ada",), 0),
        (f"it is {NO_ANSWER}", (), 0),
    ],
)
def test_saying_so_counts_as_no_answer(prediction: str, target: tuple[str, ...], exact: float) -> None:
    assert tasks.squad_v2(ROWS).metric(prediction, target)["exact"] == exact


def test_other_words_for_no_answer() -> None:
    task = tasks.squad_v2(ROWS, no_answer="not given", max_tokens=5)
    assert task.metric("Not given!", ())["exact"] == 1
    assert task.metric(NO_ANSWER, ())["exact"] == 0
    assert task.constants == ("not given",)
    assert task.sampling.max_tokens == 5


def test_the_prompt_uses_what_the_rows_have() -> None:
    assert SQUAD_PROMPT.variables <= sample("validation")[0].keys()
    system, user = SQUAD_PROMPT.format(context="Ada {wrote}.", question="Who?")
    assert NO_ANSWER in system.content
    assert user.content == "Ada {wrote}.\n\nQuestion: Who?"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "squad_v2 has no rows"),
        ([{"question": "q"}], "row 0: SQuAD rows have 'context', 'question' and 'answers'; this one has 'question'"),
        ([{**ROWS[0], "answers": 5}], "row 0: 'answers' should be"),
        (5, "can't read rows from int"),
        ("missing.json", "no such file"),
    ],
)
def test_what_is_no_squad(rows: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tasks.squad_v2(rows)


def test_a_task_of_your_own() -> None:
    task = Task(
        "length",
        [TaskRow("1", {"x": "a"}, 3, "c")],
        lambda prediction, target, /: {"right": float(len(prediction) == target)},
        prompt=SQUAD_PROMPT,
    )
    assert task.metric("abc", 3) == {"right": 1.0}
    assert tuple(task.splits(task.rows[0])) == ()
