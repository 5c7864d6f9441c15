"""Each reply measured as it comes: a metric that fails does so before more is asked, and the score so far is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from numbers import Real
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from tqdm.auto import tqdm

from condition.errors import DataError
from condition.evaluation.asking import Asking
from condition.evaluation.tasks.task import Reply, Task, TaskRow
from condition.types import Value

TOGETHER = 64
"""Rows that a task's `prepare` sees at once."""


class ResultRow(Value):
    """One row's prediction and what the metric made of it."""

    id: str
    prediction: str
    """What was said; of a conversation, all replies."""
    target: Any
    metrics: Mapping[str, float]
    splits: tuple[str, ...]


@final
class Measuring:
    """`rows` by place, as they are answered; beside them a bar that comes up after three seconds."""

    def __init__(self, task: Task, asking: Asking, name: str = "evaluate") -> None:
        self.rows: dict[int, ResultRow] = {}
        self._task = task
        self._asking = asking
        self._bar = tqdm(total=len(asking.rows), desc=name, unit="row", delay=3, leave=False)
        self._names: set[str] = set()
        self._sum = 0.0
        self._measuring = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def ask(self, places: Sequence[int]) -> None:
        """Ask the rows at these places, and measure them."""
        try:
            self._asking.ask(places, self._told)
        finally:
            if not self._measuring:  # a judge that failed, or was stopped, is not asked once more
                self._told(TOGETHER)  # what was finished before it was stopped

    def _told(self, enough: int = 0) -> None:
        """Measure what is new: many rows at once where the task prepares itself, even if they were answered singly."""
        new = list(takewhile(lambda place: place not in self.rows, reversed(self._asking.replies)))[::-1]
        if self._task.prepares and len(new) + enough < TOGETHER:
            return
        self._measuring = True
        replies = [self._asking.replies[place] for place in new]
        self._task.prepare([self._asking.rows[place] for place in new], replies)
        for place in new:
            row = self._measured(self._asking.rows[place], self._asking.replies[place])
            self.rows[place] = row
            name = headline(self._task, row)
            if name in row.metrics:
                self._sum += row.metrics[name]
                self._bar.set_postfix_str(f"{name} {self._sum / len(self.rows):.3f}", refresh=False)
        self._bar.update(len(new))
        self._measuring = False

    def _measured(self, row: TaskRow, reply: Reply) -> ResultRow:
        return ResultRow(
            id=row.id,
            prediction="\n\n".join(reply.turns) or reply.text,
            target=row.target,
            metrics=_checked(self._task, row, reply, self._names),
            splits=tuple(self._task.splits(row)),
        )


def headline(task: Task, row: ResultRow) -> str:
    """The measure that decides. Raises DataError where the task names one that its rows do not have."""
    wanted = task.headline or list(row.metrics)[-1]
    if wanted not in row.metrics and wanted not in task.pooled:
        known = ", ".join((*row.metrics, *task.pooled))
        raise DataError(f"{task.name}: the headline {wanted!r} is none of its measures, which are {known}")
    return wanted


def _checked(task: Task, row: TaskRow, reply: Reply, names: set[str]) -> Mapping[str, float]:
    """The metric's values for one row. Raises DataError for none, others than before, or no finite numbers."""
    where = f"{task.name}, row {row.id}: the metric"
    try:
        values = task.measure(row, *reply)
    except Exception as error:  # a metric may be the user's code
        error.add_note(f"{where} failed for the prediction {reply.text!r:.80} and the target {row.target!r:.80}")
        raise
    if not isinstance(values, Mapping) or not values:
        raise DataError(f"{where} gave {values!r:.60}, not named values such as {{'exact': 1.0}}")
    for name, value in values.items():
        if not isinstance(value, Real | np.bool_) or not math.isfinite(value):
            raise DataError(f"{where} gave {name}={value!r:.60}, not a finite number")
    if names and names != set(values):
        raise DataError(f"{where} gave {sorted(values)}, and {sorted(names)} for other rows")
    names.update(values)
    return {name: float(value) for name, value in values.items()}
