"""What is measured: rows with inputs and targets, a metric, and what to report beside its mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, final

from condition.data.formats import NO_ANSWER, is_abstention, is_squad, squad_answers
from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation import metrics
from condition.prompts.template import ChatPrompt, as_prompt
from condition.protocols import Metric, Prompt
from condition.types import Example, Sampling

Splits = Callable[["TaskRow"], Sequence[str]]


class TaskRow(NamedTuple):
    """One question to a subject."""

    id: str
    inputs: Mapping[str, Any]
    target: Any
    cluster: str
    """Rows of one cluster (a passage) count as one observation in intervals."""


@final
class Task:
    """Rows, a metric, and the prompt for subjects that bring none.

    The metric's values go from 0 to 1 and are shown in percent; by its last one the best constant is chosen.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[TaskRow],
        metric: Metric,
        *,
        prompt: Prompt | str,
        sampling: Sampling = Sampling(temperature=0.0),
        splits: Splits = lambda row: (),
        constants: Sequence[str] = (),
    ) -> None:
        if not rows:
            raise DataError(f"the task {name} has no rows")
        self.name = name
        self.rows = tuple(rows)
        self.metric = metric
        self.prompt = as_prompt(prompt)
        self.sampling = sampling
        self.splits = splits
        """Names of the parts that a row is also reported under."""
        self.constants = (constants,) if isinstance(constants, str) else tuple(constants)
        """Answers that need no model; the best of them is reported beside every result."""

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {len(self.rows)} rows)"


SQUAD_PROMPT = ChatPrompt(
    [
        ("system", f"Answer with the fewest words from the passage. If it does not hold the answer, say: {NO_ANSWER}"),
        ("user", "{context}\n\nQuestion: {question}"),
    ]
)


def squad_v2(path_or_rows: object, /, *, no_answer: str = NO_ANSWER, max_tokens: int = 32) -> Task:
    """Questions over passages, some without an answer: official exact match and F1, in all and in both kinds apart.

    Takes the original file, rows with the columns of the hub's `squad_v2`, or Examples. A prediction that says
    `no_answer` counts as none. The constant answer `no_answer` is reported beside the result.
    """
    rows = [_squad_row(row, where, no_answer) for row, where in locate(path_or_rows)]

    def metric(prediction: str, target: Any, /) -> Mapping[str, float]:
        return metrics.squad_v2("" if is_abstention(prediction, no_answer) else prediction, target)

    return Task(
        "squad_v2",
        rows,
        metric,
        prompt=SQUAD_PROMPT,
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
        splits=lambda row: ("answerable",) if row.target else ("unanswerable",),
        constants=(no_answer,),
    )


def _squad_row(row: Mapping[str, Any], where: str, no_answer: str) -> TaskRow:
    example = row.get("__example__")
    if isinstance(example, Example):
        answers: tuple[str, ...] = () if is_abstention(example.target, no_answer) else (example.target,)
        return TaskRow(example.id or where, example.inputs, answers, str(example.inputs.get("context", where)))
    if not is_squad(row):
        raise DataError(
            f"{where}: SQuAD rows have 'context', 'question' and 'answers'; this one has {', '.join(map(repr, row))}"
        )
    inputs = {name: value for name, value in row.items() if name not in ("answers", "id")}
    return TaskRow(str(row.get("id", where)), inputs, squad_answers(row, where), str(row["context"]))
