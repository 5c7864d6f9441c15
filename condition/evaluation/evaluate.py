"""Measure a subject on a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseLanguageModel

from condition.errors import BudgetError, ModelError
from condition.evaluation.statistics import Estimate, estimate
from condition.evaluation.tasks import Task, TaskRow
from condition.models.local import LocalModel
from condition.models.remote import as_model
from condition.prompts.template import as_prompt
from condition.protocols import Chain, Model, Prompt
from condition.types import Answer, Usage, Value

Subject = LocalModel | Model | Chain | tuple[Any, Any] | Callable[[Mapping[str, Any]], str]


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
    function from inputs to text. `budget` is the most rows that are asked. Raises ModelError for anything else.
    """
    if budget is not None and budget < 1:
        raise BudgetError(f"budget={budget}: at least one row has to be asked")
    asked = task.rows[:budget]
    began = time.perf_counter()
    predictions, usage = _predictions(subject, task, asked)
    seconds = time.perf_counter() - began
    rows = tuple(
        ResultRow(
            id=row.id,
            prediction=text,
            target=row.target,
            metrics=task.metric(text, row.target),
            splits=tuple(task.splits(row)),
        )
        for row, text in zip(asked, predictions, strict=True)
    )
    constant, measures = _measures(task, asked, rows)
    return Result(task=task.name, metrics=measures, rows=rows, constant=constant, usage=usage, seconds=seconds)


def _predictions(subject: Subject, task: Task, rows: Sequence[TaskRow]) -> tuple[list[str], Usage]:
    inputs = [row.inputs for row in rows]
    if isinstance(subject, tuple):
        if len(subject) != 2:
            raise ModelError(f"can't evaluate {len(subject)} things at once: give (model, prompt)")
        model, prompt = subject
        return _asked(as_model(model), as_prompt(prompt), task, inputs)
    if isinstance(subject, BaseLanguageModel):  # a Runnable too, but one that answers messages, not rows
        return _asked(as_model(subject), task.prompt, task, inputs)
    own = getattr(subject, "prompt", None)
    if isinstance(subject, LocalModel) or (isinstance(subject, Model) and not isinstance(subject, Chain)):
        return _asked(subject, own if own is not None else task.prompt, task, inputs)
    if isinstance(subject, Chain):
        answers = [a if hasattr(a, "text") else None for a in subject.batch([dict(i) for i in inputs])]
        if None in answers:
            raise ModelError(
                f"{type(subject).__name__}.batch gave something that has no text; a chain answers with Answers"
            )
        texts = [str(a.text) for a in answers if a is not None]
        if len(texts) != len(rows):
            raise ModelError(f"{type(subject).__name__}.batch gave {len(texts)} answers to {len(rows)} rows")
        return texts, sum((getattr(a, "usage", None) or Usage() for a in answers), Usage())
    if callable(subject):
        return [_said(subject(i)) for i in inputs], Usage()
    raise ModelError(f"can't evaluate {type(subject).__name__}: give a model, (model, prompt), a chain or a function")


def _said(value: object) -> str:
    if isinstance(value, Answer):
        return value.text
    if not isinstance(value, str):
        raise ModelError(f"the function gave {type(value).__name__}, not text")
    return value


def _asked(model: Any, prompt: Prompt, task: Task, inputs: Sequence[Mapping[str, Any]]) -> tuple[list[str], Usage]:
    messages = [prompt.format(**{name: given[name] for name in prompt.variables if name in given}) for given in inputs]
    completions = cast(Model, model).generate(messages, task.sampling)
    usage = sum((c.usage or Usage() for row in completions for c in row), Usage())
    return [row[0].text for row in completions], usage


def _measures(
    task: Task, asked: Sequence[TaskRow], rows: Sequence[ResultRow]
) -> tuple[str | None, dict[str, Estimate]]:
    clusters = [row.cluster for row in asked]
    names = list(rows[0].metrics)
    found = {name: estimate([row.metrics[name] for row in rows], clusters) for name in names}
    for part in dict.fromkeys(part for row in rows for part in row.splits):
        inside = [i for i, row in enumerate(rows) if part in row.splits]
        for name in names:
            values = [rows[i].metrics[name] for i in inside]
            found[f"{name}_{part}"] = estimate(values, [clusters[i] for i in inside])
    if not task.constants:
        return None, found
    # The best constant is the one with the highest mean of the last measure: F1 for SQuAD, the only one elsewhere.
    scored = {c: [task.metric(c, row.target) for row in asked] for c in task.constants}
    best = max(scored, key=lambda c: sum(m[names[-1]] for m in scored[c]))
    for name in names:
        constant = [m[name] for m in scored[best]]
        found[f"constant_{name}"] = estimate(constant, clusters)
        differences = [row.metrics[name] - value for row, value in zip(rows, constant, strict=True)]
        found[f"over_constant_{name}"] = estimate(differences, clusters)
    return best, found
