"""Measure a subject on a task.

result = evaluate((model, prompt), tasks.squad_v2("dev.json"), budget=200, cache="answers")
print(result)                               # each measure with its 95 % interval
result.metrics["f1"].low, result.rows[0].prediction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from condition.errors import BudgetError, DataError, Interrupted
from condition.evaluation.asking import Asking
from condition.evaluation.measuring import Measuring, ResultRow, headline
from condition.evaluation.statistics import Estimate, estimate, pooled
from condition.evaluation.subjects import Subject
from condition.evaluation.tasks.task import Reply, Task, TaskRow
from condition.types import Usage, Value


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
    """Of asking; of cached rows, those that asking them once took."""
    cached: int = 0
    """Rows that were not asked again."""
    errors: Mapping[str, str] = {}
    """By row's id: why a chain had no answer, or only a part of one. Its text counts as its prediction all the same."""
    headline: str = ""
    """The measure that decides."""

    def __str__(self) -> str:
        width = max(map(len, self.metrics))
        lines = [
            f"{name:{width}}  {value}{' %' if value.is_share else ''}  n={value.n}"
            for name, value in self.metrics.items()
        ]
        kept = f", {self.cached} of them from the cache" if self.cached else ""
        failed = [f"{len(self.errors)} without an answer, see .errors"] if self.errors else []
        return "\n".join([f"{self.task}: {len(self.rows)} rows{kept}, {self.seconds:.1f} s", *lines, *failed])


def evaluate(
    subject: Subject,
    task: Task,
    *,
    budget: int | None = None,
    cache: str | Path | None = None,
    key: str | None = None,
) -> Result:
    """The task's metrics with 95 % intervals.

    The subject is a model (with its own prompt, or behind the task's), a pair of model and prompt, a chain, or a plain
    function from inputs to text; ours or LangChain's. `budget` is the most rows that are asked.

    `cache` names a folder where answers are kept batch by batch: a run that was killed goes on, and what was answered
    is not asked again, whatever the metric. A local model is known by its weights. Any other subject is kept only where
    `key` names it, and then it is you who changes the name when the subject changes.

    Raises ModelError where the subject can't be asked, DataError where `task` is none or its metric gives no finite
    numbers, and `Interrupted` on Ctrl-C, which holds the rows that were finished, by index.
    """
    asked = rows_of(subject, task, budget)
    asking = Asking(subject, task, asked, cache=cache, key=key)
    with Measuring(task, asking) as measuring:
        try:
            measuring.ask(range(len(asked)))
        except KeyboardInterrupt:
            raise Interrupted(measuring.rows, len(asked)) from None
    return result(task, asking, measuring.rows)


def rows_of(subject: object, task: Task, budget: int | None) -> tuple[TaskRow, ...]:
    """The rows to ask. Raises DataError for no task, BudgetError for a budget that asks nothing."""
    if not isinstance(task, Task):
        raise DataError(_no_task(subject, task))
    if budget is not None and (not isinstance(budget, int) or budget < 1):
        raise BudgetError(f"budget={budget!r}: at least one row has to be asked, and rows are whole numbers")
    return task.rows[:budget]


def result(task: Task, asking: Asking, measured: Mapping[int, ResultRow]) -> Result:
    """What the rows that were asked come to."""
    places = sorted(measured)
    asked, rows = [asking.rows[place] for place in places], tuple(measured[place] for place in places)
    constant, measures = _measures(task, asked, rows)
    measures |= _pooled(task, asked, [asking.replies[place] for place in places])
    return Result(
        task=task.name,
        metrics=measures,
        rows=rows,
        constant=constant,
        usage=asking.usage,
        seconds=asking.seconds,
        cached=asking.cached,
        errors={asking.rows[place].id: why for place, why in sorted(asking.errors.items())},
        headline=headline(task, rows[0]),
    )


def _no_task(subject: object, task: object) -> str:
    if isinstance(subject, Task):
        return f"evaluate(subject, task): the subject comes first, and {subject!r} second"
    rows = repr(str(task)) if isinstance(task, str | PathLike) else "rows"
    return f"evaluate takes a task, not {task!r:.80}: give cd.tasks.squad_v2({rows}) or another task over these rows"


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
    # The best constant is the one with the best mean of the measure that decides, where rows have it.
    deciding = task.headline if task.headline in names else names[-1]
    sign = -1 if deciding in task.less_is_better else 1
    scored = {c: [task.measure(row, c) for row in asked] for c in task.constants}
    best = max(scored, key=lambda c: sign * sum(m[deciding] for m in scored[c]))
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
