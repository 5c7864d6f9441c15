"""What is measured: rows with inputs and targets, a metric, and what to report beside its mean.

    rows = [TaskRow("1", {"question": "2 + 2?"}, "4"), TaskRow("2", {"question": "3 + 4?"}, "7")]
    task = Task("sums", rows, metrics.exact_match, prompt="{question}")

A row with `choices` is a likelihood row: a subject that can score says how likely each choice is, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from condition.errors import DataError
from condition.prompts.template import as_prompt
from condition.protocols import Metric, Prompt
from condition.types import Sampling, Score


class TaskRow(NamedTuple):
    """One question to a subject."""

    id: str
    inputs: Mapping[str, Any]
    target: Any
    cluster: str = ""
    """Rows of one cluster (a passage) count as one observation in intervals. A row without one is its own."""
    choices: tuple[str, ...] = ()
    """Texts to be scored behind the prompt; none where the subject writes. Behind plain text that does not end in white
    space they follow with one space, behind no text at all they are scored from their first token on."""
    then: tuple[Mapping[str, Any], ...] = ()
    """Of a conversation: inputs that take the place of the row's own in each turn that follows the first reply."""


class Reply(NamedTuple):
    """What a subject made of one row."""

    text: str
    """What was written; where choices were scored, the likeliest; of a conversation, what was said last."""
    scores: tuple[Score, ...] | None = None
    """Of the row's choices behind the prompt, then of all of them behind each of the task's `references`."""
    samples: tuple[str, ...] = ()
    """Everything that was written for the row, `text` first, where more than one text was asked for."""
    turns: tuple[str, ...] = ()
    """Of a conversation, all replies in their order; none where there was one turn only."""


@dataclass(frozen=True)
class Pooled:
    """A measure of all rows together that is no mean of theirs, such as the perplexity of a corpus."""

    count: Callable[[TaskRow, Reply], Sequence[float]]
    """What a row adds: as many numbers for each row."""
    total: Callable[[Sequence[float]], float]
    """The measure, from the sums of those numbers over rows."""


Splits = Callable[[TaskRow], Sequence[str]]
Measure = Callable[[TaskRow, Reply], Mapping[str, float]]
Prepare = Callable[[Sequence[TaskRow], Sequence[Reply]], None]


@final
class Task:
    """Rows, a metric, and the prompt for subjects that bring none.

    `metric` sees a prediction and the row's target; `measure`, where it is given instead, sees the whole row and reply.
    `prepare` sees all rows that were answered together, before they are measured one by one: a judge reads them in one
    call. Raises DataError for no rows, for a row that has choices where another has none, and for an empty choice.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[TaskRow],
        metric: Metric | None = None,
        *,
        prompt: Prompt | str,
        sampling: Sampling = Sampling(temperature=0.0),
        splits: Splits = lambda row: (),
        constants: Sequence[str] = (),
        measure: Measure | None = None,
        prepare: Prepare | None = None,
        references: Sequence[Prompt | str | Mapping[str, Any]] = (),
        pooled: Mapping[str, Pooled] | None = None,
        headline: str | None = None,
        less_is_better: Collection[str] = (),
    ) -> None:
        if not rows:
            raise DataError(f"the task {name} has no rows")
        if (metric is None) == (measure is None):
            raise DataError(f"the task {name} needs a metric(prediction, target), or a measure(row, reply) instead")
        _check_choices(name, rows)
        _check_turns(name, rows, sampling.n)
        self.name = name
        self.rows = tuple(row if row.cluster else row._replace(cluster=row.id) for row in rows)
        self.has_turns = any(row.then for row in rows)
        """Whether a row goes on after its first reply."""
        self.metric: Metric = metric or _whole_rows_only
        self.prompt = as_prompt(prompt)
        self.sampling = sampling
        self.splits = splits
        """Names of the parts that a row is also reported under."""
        self.constants = (constants,) if isinstance(constants, str) else tuple(constants)
        """Answers that need no model; the best of them is reported beside every result."""
        self.references: tuple[Prompt | Mapping[str, Any], ...] = tuple(
            one if isinstance(one, Mapping) else as_prompt(one) for one in references
        )
        """What choices are compared with: further prompts behind which they are scored, for PMI, or inputs that take
        the place of the row's own in the subject's prompt, for calibration."""
        self.pooled = dict(pooled or {})
        """Measures of all rows together, by name."""
        self.headline = headline
        """The measure that decides, among those of a row or the pooled ones; the last one of a row where it is none."""
        self.less_is_better = frozenset(less_is_better)
        """Measures, such as a perplexity, of which less is better."""
        self._measure = measure
        self._prepare = prepare

    @property
    def scored(self) -> bool:
        """Whether choices are scored rather than answers written."""
        return bool(self.rows[0].choices)

    @property
    def prepares(self) -> bool:
        """Whether rows are to be measured many at once."""
        return self._prepare is not None

    def prepare(self, rows: Sequence[TaskRow], replies: Sequence[Reply]) -> None:
        """Told of rows that were answered together, before each is measured."""
        if self._prepare is not None and replies:
            self._prepare(rows, replies)

    def measure(
        self,
        row: TaskRow,
        text: str,
        scores: tuple[Score, ...] | None = None,
        samples: tuple[str, ...] = (),
        turns: tuple[str, ...] = (),
    ) -> Mapping[str, float]:
        """Named values of one row."""
        if self._measure is not None:
            return self._measure(row, Reply(text, scores, samples, turns))
        return self.metric(text, row.target)

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {len(self.rows)} rows)"


def _whole_rows_only(prediction: str, target: Any, /) -> Mapping[str, float]:
    raise DataError("this task measures a whole row with its reply: call task.measure(row, text, scores)")


def _check_turns(name: str, rows: Sequence[TaskRow], n: int) -> None:
    for row in rows:
        if isinstance(row.then, Mapping) or not all(isinstance(one, Mapping) for one in row.then):
            raise DataError(
                f"the task {name}: row {row.id}: then={row.then!r:.60} is no sequence of inputs: give then=({{...}},)"
            )
        if row.then and (row.choices or n > 1 or "history" in row.inputs):
            raise DataError(
                f"the task {name}: row {row.id} is a conversation: one reply is written in each turn, so it has no "
                "choices, the sampling n=1, and no input 'history', which holds what was said"
            )


def _check_choices(name: str, rows: Sequence[TaskRow]) -> None:
    for row in rows:
        if bool(row.choices) != bool(rows[0].choices):
            raise DataError(f"the task {name}: row {row.id} and row {rows[0].id}: one has choices, the other has none")
        if isinstance(row.choices, str) or not all(isinstance(c, str) and c for c in row.choices):
            raise DataError(
                f"the task {name}: row {row.id}: choices are texts, none of them empty: {row.choices!r:.80}"
            )
