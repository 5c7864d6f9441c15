"""What training may watch beside its loss, and what tuning has made a model forget.

watch = watcher(task, rows=64)                  # a function of a model, higher is better: for `fit(..., watch=watch)`
lost = forgetting(base, tuned, other_task)      # on a second task, before and after
print(lost.difference, lost.p)
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any, final

from condition.errors import DataError
from condition.evaluation.compare import compare
from condition.evaluation.evaluate import evaluate, rows_of
from condition.evaluation.statistics import Estimate
from condition.evaluation.tasks.task import Task
from condition.types import Value


@final
class Watcher:
    """Measures a model on the same few rows each time: `watch(model)` is the measure, turned so that more is better."""

    def __init__(self, task: Task, measure: str | None) -> None:
        self.task = task
        self.measure = measure

    def __call__(self, model: Any, /) -> float:
        found = evaluate(model, self.task)
        name = self.measure or found.headline
        if name not in found.metrics:
            raise DataError(f"{self.task.name} has no measure {name!r}; it has {', '.join(found.metrics)}")
        value = found.metrics[name].value
        return -value if name in self.task.less_is_better else value

    def __repr__(self) -> str:
        return f"Watcher({self.measure or 'the headline'} of {self.task!r})"


def watcher(task: Task, measure: str | None = None, *, rows: int = 64, seed: int = 0) -> Watcher:
    """A function of a model that gives a measure of a task, higher for better, on `rows` of its rows drawn by `seed`.

    Trainers take it as a plain function: training knows nothing of evaluation. 64 rows that are written once an epoch
    cost little beside training on thousands; rows with choices cost less still. Call it once on the base:
    that says where it starts. It raises DataError for a measure that the task does not have; a training calls it once
    before its first step, so there too nothing is lost.
    """
    rows_of(watcher, task, rows)
    part = copy.copy(task)
    drawn = random.Random(seed).sample(range(len(task.rows)), min(rows, len(task.rows)))
    part.rows = tuple(task.rows[place] for place in sorted(drawn))
    return Watcher(part, measure)


class Forgetting(Value):
    """A task before and after tuning, on the same rows."""

    before: Estimate
    after: Estimate
    difference: Estimate
    """After less before; where it lies above 0 for a measure of which less is better, that is a loss too."""
    p: float
    """How likely so large a difference would be if nothing had changed."""


def forgetting(
    before: Any, after: Any, task: Task, *, budget: int | None = None, cache: str | Path | None = None
) -> Forgetting:
    """What tuning did to a task that it was not for. `before` and `after` are whatever `evaluate` takes."""
    table = compare({"before": before, "after": after}, task, budget=budget, cache=cache)
    first, second = table.methods
    if second.difference is None or second.p is None:
        raise DataError(f"{task.name}: nothing to compare")
    return Forgetting(before=first.score, after=second.score, difference=second.difference, p=second.p)
