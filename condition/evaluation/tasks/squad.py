"""SQuAD v2: questions over passages, some without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condition.data.formats import NO_ANSWER, is_abstention, is_squad, squad_answers
from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation import metrics
from condition.evaluation.tasks.task import Task, TaskRow
from condition.prompts.template import ChatPrompt
from condition.types import Example, Sampling

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
