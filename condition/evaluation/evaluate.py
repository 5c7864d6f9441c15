"""Measure a subject on a task."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from condition.errors import BudgetError, DataError
from condition.evaluation.statistics import Estimate, estimate, pooled
from condition.evaluation.subjects import Subject, ask
from condition.evaluation.tasks.task import Reply, Task, TaskRow
from condition.types import Usage, Value


class ResultRow(Value):
    """One row's prediction and what the metric made of it."""

    id: str
    prediction: str
    target: Any
    metrics: Mapping[str, float]
    splits: tuple[str, ...]


class Result(Value):
    """What came out. `metrics` holds each measure in all and, as `<measure>_<part>`, in each part of the rows;
    `constant_<measure>` is the best constant answer and `over_constant_<measure>` the paired difference from it."""

    task: str
    metrics: Mapping[str, Estimate]
    rows: tuple[ResultRow, ...]
    constant: str | None
    """The best constant answer."""
    usage: Usage
    seconds: float

    def __str__(self) -> str:
        width = max(map(len, self.metrics))
        lines = [f"{name:{width}}  {value}  n={value.n}" for name, value in self.metrics.items()]
        return "\n".join([f"{self.task}: {len(self.rows)} rows, {self.seconds:.1f} s", *lines])


def evaluate(subject: Subject, task: Task, *, budget: int | None = None) -> Result:
    """The task's metrics with 95 % intervals.

    The subject is a model (with its own prompt, or behind the task's), a pair of model and prompt, a chain, or a plain
    function from inputs to text; ours or LangChain's. `budget` is the most rows that are asked.

    Raises ModelError where the subject can't be asked, DataError where `task` is none or its metric gives no finite
    numbers.
    """
    if not isinstance(task, Task):
        raise DataError(_no_task(subject, task))
    if budget is not None and budget < 1:
        raise BudgetError(f"budget={budget}: at least one row has to be asked")
    asked = task.rows[:budget]
    began = time.perf_counter()
    said = ask(subject, task, asked)
    seconds = time.perf_counter() - began
    names: set[str] = set()
    replies = [Reply(*reply) for reply in zip(said.texts, said.scores, said.samples, strict=True)]
    rows = tuple(
        ResultRow(
            id=row.id,
            prediction=reply.text,
            target=row.target,
            metrics=_measured(task, row, reply, names),
            splits=tuple(task.splits(row)),
        )
        for row, reply in zip(asked, replies, strict=True)
    )
    constant, measures = _measures(task, asked, rows)
    measures |= _pooled(task, asked, replies)
    return Result(task=task.name, metrics=measures, rows=rows, constant=constant, usage=said.usage, seconds=seconds)


def _no_task(subject: object, task: object) -> str:
    if isinstance(subject, Task):
        return f"evaluate(subject, task): the subject comes first, and {subject!r} second"
    rows = repr(str(task)) if isinstance(task, str | PathLike) else "rows"
    return f"evaluate takes a task, not {task!r:.80}: give cd.tasks.squad_v2({rows}) or another task over these rows"


def _measured(task: Task, row: TaskRow, reply: Reply, names: set[str]) -> Mapping[str, float]:
    """The metric's values for one row. Raises DataError for none, others than before, or no finite numbers."""
    values = task.measure(row, *reply)
    where = f"{task.name}, row {row.id}: the metric"
    if not isinstance(values, Mapping) or not values:
        raise DataError(f"{where} gave {values!r:.60}, not named values such as {{'exact': 1.0}}")
    for name, value in values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{where} gave {name}={value!r:.60}, not a finite number")
    if names and names != set(values):
        raise DataError(f"{where} gave {sorted(values)}, and {sorted(names)} for other rows")
    names.update(values)
    return values


def _measures(
    task: Task, asked: Sequence[TaskRow], rows: Sequence[ResultRow]
) -> tuple[str | None, dict[str, Estimate]]:
    clusters = [row.cluster for row in asked]
    names = list(rows[0].metrics)
    found = {name: _bounded([row.metrics[name] for row in rows], clusters) for name in names}
    for part in dict.fromkeys(part for row in rows for part in row.splits):
        inside = [i for i, row in enumerate(rows) if part in row.splits]
        for name in names:
            values = [rows[i].metrics[name] for i in inside]
            found[f"{name}_{part}"] = _bounded(values, [clusters[i] for i in inside])
    if not task.constants:
        return None, found
    # The best constant is the one with the highest mean of the last measure: F1 for SQuAD, the only one elsewhere.
    scored = {c: [task.measure(row, c) for row in asked] for c in task.constants}
    best = max(scored, key=lambda c: sum(m[names[-1]] for m in scored[c]))
    for name in names:
        constant = [m[name] for m in scored[best]]
        found[f"constant_{name}"] = _bounded(constant, clusters)
        differences = [row.metrics[name] - value for row, value in zip(rows, constant, strict=True)]
        bounds = (-1.0, 1.0) if all(0 <= v <= 1 for v in (*constant, *(row.metrics[name] for row in rows))) else None
        found[f"over_constant_{name}"] = estimate(differences, clusters, bounds=bounds)
    return best, found


def _pooled(task: Task, asked: Sequence[TaskRow], replies: Sequence[Reply]) -> dict[str, Estimate]:
    """Measures of all rows together."""
    clusters = [row.cluster for row in asked]
    return {
        name: pooled([one.count(row, reply) for row, reply in zip(asked, replies, strict=True)], one.total, clusters)
        for name, one in task.pooled.items()
    }


def _bounded(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """The estimate of a measure, which is taken to be a share where all its values could be one."""
    return estimate(values, clusters, bounds=(0.0, 1.0) if all(0 <= v <= 1 for v in values) else None)
