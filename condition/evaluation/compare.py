"""Which method is worth its cost? All of them on the same rows, in one table.

table = compare({"zero-shot": (base, qa), "few-shot": (base, shots), "LoRA": tuned}, task, budget=200)
print(table)                     # scores, paired differences from the first row, costs, break-even
table.to_html("compare.html")
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from condition.errors import DataError, Interrupted, ModelError, SettingsError
from condition.evaluation.asking import Asking
from condition.evaluation.comparison import Comparison, break_even
from condition.evaluation.contamination import refuse_overlap
from condition.evaluation.evaluate import Result, result, rows_of
from condition.evaluation.measuring import Measuring, ResultRow, headline
from condition.evaluation.paired import Paired, compared, compared_pooled, holm
from condition.evaluation.sequential import Race
from condition.evaluation.subjects import Subject, check
from condition.evaluation.table import Method
from condition.evaluation.tasks.task import Task, TaskRow
from condition.evaluation.training_cost import trained

ROUND = 16
"""Rows between two looks of `early`."""
ALPHA = 0.05


def compare(
    subjects: Mapping[str, Subject],
    task: Task,
    *,
    budget: int | None = None,
    early: bool = False,
    cache: str | Path | None = None,
    keys: Mapping[str, str] | None = None,
    training: object = None,
    allow_overlap: bool = False,
    seed: int = 0,
) -> Comparison:
    """Every subject on the same rows, the first one as what the others are compared with.

    `budget` is the most rows that each is asked. `early` stops a subject once it is surely worse than another one, with
    an error of at most 5 % in the whole table; rows then come in a random order by `seed`, whole clusters together, and
    the first subject is asked all of them. `cache` and `keys` (by name) are as in `evaluate`. `training` takes the rows
    that a subject was tuned on: a task that shares rows with them is refused, unless `allow_overlap`.

    Raises SettingsError, DataError or BudgetError before anything is asked where the subjects or the task make no
    sense, and `Interrupted` on Ctrl-C: `.finished` maps each name to its rows by index. With a cache, the same call
    goes on from there.
    """
    _check(subjects, keys)
    rows = rows_of(subjects, task, budget)
    if training is not None and not allow_overlap:
        refuse_overlap(training, rows)
    if early:
        _check_early(task)
        rows = _shuffled(rows, seed)
    named = dict(keys or {})
    askings = {
        name: Asking(subject, task, rows, cache=cache, key=named.get(name)) for name, subject in subjects.items()
    }
    with ExitStack() as bars:
        measurings = {name: bars.enter_context(Measuring(task, asking, name)) for name, asking in askings.items()}
        try:
            stopped = _race(task, rows, measurings) if early else _all(rows, measurings)
        except KeyboardInterrupt:
            found = {name: measuring.rows for name, measuring in measurings.items()}
            raise Interrupted({n: r for n, r in found.items() if r}, len(found), "subjects") from None  # type: ignore[misc]
    results = {name: result(task, asking, measurings[name].rows) for name, asking in askings.items()}
    return _table(subjects, task, rows, askings, results, stopped)


def _all(rows: Sequence[TaskRow], measurings: Mapping[str, Measuring]) -> dict[str, str]:
    for measuring in measurings.values():
        measuring.ask(range(len(rows)))
    return {}


def _race(task: Task, rows: Sequence[TaskRow], measurings: Mapping[str, Measuring]) -> dict[str, str]:
    """Ask in rounds, and say why those that stop early do."""
    names = list(measurings)
    race = Race(names, ALPHA, stays=names[0])
    clusters: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        clusters.setdefault(row.cluster, []).append(place)
    largest = max(map(len, clusters.values()))
    stopped: dict[str, str] = {}
    for together in _rounds(list(clusters.values())):
        running = [name for name in names if name not in stopped]
        for name in running:
            measurings[name].ask([place for cluster in together for place in cluster])
        for cluster in together:
            # A sum over the largest cluster's size: its mean has the sign of the difference by rows.
            race.add(
                {
                    name: sum(_gain(task, measurings[name].rows[place]) for place in cluster) / largest
                    for name in running
                }
            )
        for name, better in race.worse().items():
            if name not in stopped:
                stopped[name] = f"surely worse than {better!r} after {len(measurings[name].rows)} rows"
    return {name: why for name, why in stopped.items() if len(measurings[name].rows) < len(rows)}


def _rounds(clusters: Sequence[list[int]]) -> list[list[list[int]]]:
    rounds: list[list[list[int]]] = [[]]
    for cluster in clusters:
        if sum(map(len, rounds[-1])) >= ROUND:
            rounds.append([])
        rounds[-1].append(cluster)
    return rounds


def _gain(task: Task, row: ResultRow) -> float:
    name = headline(task, row)
    value = row.metrics[name]
    if not 0 <= value <= 1:
        raise SettingsError(f"early=True needs a measure from 0 to 1, and {name} is {value:g} for row {row.id}")
    return 1 - value if name in task.less_is_better else value


def _table(
    subjects: Mapping[str, Subject],
    task: Task,
    rows: Sequence[TaskRow],
    askings: Mapping[str, Asking],
    results: Mapping[str, Result],
    stopped: Mapping[str, str],
) -> Comparison:
    first, *others = results
    measure = results[first].headline
    less = measure in task.less_is_better
    if lacking := [name for name, found in results.items() if measure not in found.metrics]:
        known = ", ".join(results[lacking[0]].metrics)
        raise DataError(f"{lacking[0]!r} has no measure {measure!r}, which decides here; it has {known}")
    pairs = {name: _paired(task, measure, rows, askings, results, first, name) for name in others}
    # A test for one look says nothing after many, and one of nothing, such as ratings that are none, nothing at all.
    sure = [name for name in others if name not in stopped and not math.isnan(pairs[name].difference.value)]
    corrected = dict(zip(sure, holm([pairs[name].p for name in sure]), strict=True))
    methods = {}
    for name, found in results.items():
        pair, count, cost = pairs.get(name), len(found.rows), trained(subjects[name])
        tokens = found.usage.total_tokens > 0
        methods[name] = Method(
            name=name,
            score=found.metrics[measure],
            difference=pair.difference if pair else None,
            p=pair.p if pair and name in corrected else None,
            p_corrected=corrected.get(name),
            test=pair.test if pair and name in corrected else None,
            trained_parameters=cost.parameters,
            training_seconds=cost.seconds,
            input_tokens=found.usage.input_tokens / count if tokens else None,
            output_tokens=found.usage.output_tokens / count if tokens else None,
            milliseconds=1000 * found.seconds / count,
            constant=None if less else found.constant,
            constant_score=None if less else found.metrics.get(f"constant_{measure}"),
            over_constant=None if less else found.metrics.get(f"over_constant_{measure}"),
            stopped=stopped.get(name),
        )
    return Comparison(
        task=task.name,
        measure=measure,
        less_is_better=less,
        methods=tuple(_with_break_even(list(methods.values()), less)),
        results=results,
        questions=tuple(_question(row) for row in rows),
    )


def _question(row: TaskRow) -> Mapping[str, Any]:
    turns = {f"turn {i}": " ".join(map(str, changed.values())) for i, changed in enumerate(row.then, 2)}
    return {**row.inputs, **turns} if turns else row.inputs


def _paired(
    task: Task,
    measure: str,
    rows: Sequence[TaskRow],
    askings: Mapping[str, Asking],
    results: Mapping[str, Result],
    first: str,
    name: str,
) -> Paired:
    """The difference on the rows that both answered."""
    count = min(len(results[first].rows), len(results[name].rows))
    clusters = [row.cluster for row in rows[:count]]
    if measure in task.pooled:
        one = task.pooled[measure]
        sides = [
            [one.count(row, askings[who].replies[place]) for place, row in enumerate(rows[:count])]
            for who in (first, name)
        ]
        return compared_pooled(sides[0], sides[1], one.total, clusters)
    values = [[row.metrics[measure] for row in results[who].rows[:count]] for who in (first, name)]
    return compared(values[0], values[1], clusters)


def _with_break_even(methods: list[Method], less_is_better: bool) -> list[Method]:
    """Tuned methods against the best one that is not tuned: what one would use instead."""
    plain = [m for m in methods if m.trained_parameters == 0 and not m.stopped and not math.isnan(m.score.value)]
    if not plain:
        return methods
    best = min(plain, key=lambda m: m.score.value if less_is_better else -m.score.value)
    found = []
    for method in methods:
        if method.trained_parameters and method.training_seconds is not None:
            told = {"break_even": break_even(method, best), "break_even_with": best.name}
            method = method.model_copy(update=told)
        found.append(method)
    return found


def _shuffled(rows: Sequence[TaskRow], seed: int) -> tuple[TaskRow, ...]:
    """In random order, rows of a cluster together: looking early is fair only where what comes next is a draw."""
    clusters: dict[str, list[TaskRow]] = {}
    for row in rows:
        clusters.setdefault(row.cluster, []).append(row)
    order = random.Random(seed).sample(list(clusters.values()), len(clusters))
    return tuple(row for cluster in order for row in cluster)


def _check(subjects: Any, keys: Any) -> None:
    if isinstance(subjects, Task):
        raise DataError(f"compare(subjects, task): the subjects come first, and {subjects!r} second")
    if not isinstance(subjects, Mapping):
        raise SettingsError(f"compare takes a dict of names and subjects, not {subjects!r:.60}: {{'zero-shot': model}}")
    if len(subjects) < 2:
        raise SettingsError(f"compare needs two subjects or more, got {len(subjects)}; for one there is evaluate")
    if odd := [name for name in subjects if not isinstance(name, str) or not name.strip()]:
        raise SettingsError(f"{odd[0]!r} is no name for a subject: give a text")
    for name, subject in subjects.items():
        try:
            check(subject)
        except ModelError as error:
            raise SettingsError(f"the subject {name!r}: {error}") from error
    if unknown := sorted(set(keys or {}) - set(subjects)):
        raise SettingsError(f"keys= names {unknown[0]!r}, which is no subject; there are {', '.join(subjects)}")


def _check_early(task: Task) -> None:
    if task.headline in task.pooled:
        raise SettingsError(
            f"early=True needs a measure of each row, and {task.headline} is one of all rows together: use early=False"
        )
