from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from condition.errors import BudgetError, DataError
from condition.evaluation.tasks.task import Task, TaskRow
from condition.evaluation.watch import forgetting, watcher
from condition.types import Sampling

ROWS = [TaskRow(str(i), {"n": i}, f"A{i}") for i in range(40)]


def both(prediction: str, target: Any, /) -> Mapping[str, float]:
    return {"same": float(prediction == target), "length": float(len(prediction))}


def task(**changes: Any) -> Task:
    return Task("t", ROWS, both, prompt="{n}", headline="same", **changes)


def knows(most: int) -> Any:
    return lambda inputs: f"A{inputs['n']}" if inputs["n"] < most else "?"


def test_it_measures_the_same_rows_each_time() -> None:
    asked: list[list[int]] = [[], []]
    watch = watcher(task(), rows=10)
    for seen in asked:
        watch(lambda inputs, seen=seen: seen.append(inputs["n"]) or "x")
    assert asked[0] == asked[1]
    assert len(set(asked[0])) == 10
    other: list[int] = []
    watcher(task(), rows=10, seed=1)(lambda inputs: other.append(inputs["n"]) or "x")
    assert other != asked[0]


def test_more_is_better() -> None:
    assert watcher(task(), rows=40)(knows(10)) == 10 / 40
    assert watcher(task(), "length", rows=40)(lambda inputs: "four") == 4
    shorter = watcher(task(less_is_better={"length"}), "length", rows=40)
    assert shorter(lambda inputs: "x") > shorter(lambda inputs: "long")


def test_a_local_model(tiny_model: Any) -> None:
    watch = watcher(task(sampling=Sampling(max_tokens=2, temperature=0.0)), "length", rows=4)
    assert watch(tiny_model("llama")) >= 0


def test_what_was_forgotten() -> None:
    lost = forgetting(knows(30), knows(10), task())
    assert (lost.before.value, lost.after.value) == (0.75, 0.25)
    assert lost.difference.value == -0.5
    assert lost.difference.high < 0
    assert lost.p < 0.001
    same = forgetting(knows(30), knows(30), task(), budget=20)
    assert (same.p, same.before.n) == (1, 20)


def test_bad_arguments() -> None:
    with pytest.raises(DataError, match="t has no measure 'f1'; it has same, length"):
        watcher(task(), "f1")(knows(3))
    with pytest.raises(DataError, match="takes a task"):
        watcher(ROWS)  # type: ignore[arg-type]
    with pytest.raises(BudgetError):
        watcher(task(), rows=0)
