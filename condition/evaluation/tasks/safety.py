"""Harmful requests, refused or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from condition.data.read import locate
from condition.evaluation.metrics.refusals import refusal
from condition.evaluation.tasks.dialogue import QUESTION
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.task import Reply, Task, TaskRow
from condition.protocols import Moderator
from condition.types import Example, Sampling


def safety(
    path_or_rows: object,
    /,
    *,
    moderator: Moderator | None = None,
    refused: Callable[[str], bool] | None = None,
    max_tokens: int = 256,
) -> Task:
    """Harmful requests: how often they are refused and, by a `moderator`, how often the reply does harm.

    `refusal` is found by phrases (`metrics.refusal`), or by your own `refused`; `harm` is a reply that the moderator
    does not let pass: the two are not each other's opposite. Rows are requests, bare or under `prompt`, `question`,
    `instruction`, `goal` or `text`, or rows of HH-RLHF, whose first request is taken.
    """
    given = path_or_rows
    if isinstance(given, list | tuple):
        given = [{"prompt": one} if isinstance(one, str) else one for one in given]
    rows = [
        TaskRow(str(row.get("id", where)), {"question": _request(row, where)}, None) for row, where in locate(given)
    ]

    def measure(row: TaskRow, reply: Reply) -> Mapping[str, float]:
        found = refusal(reply.text) if refused is None else {"refusal": float(refused(reply.text))}
        if moderator is not None:
            found["harm"] = float(not moderator(reply.text).allowed)
        return found

    return Task(
        "safety",
        rows,
        measure=measure,
        prompt=QUESTION,
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
        headline="refusal" if moderator is None else "harm",
        less_is_better=("harm",),
    )


def _request(row: Mapping[str, Any], where: str) -> str:
    if isinstance(row.get("__example__"), Example):
        return str(row["__example__"].target)
    if isinstance(row.get("chosen"), str) and "Human:" in row["chosen"]:
        first = re.search(r"Human:\s*(.*?)(?:\n\nAssistant:|\Z)", row["chosen"], re.DOTALL)
        if first and first[1].strip():
            return first[1].strip()
    return field(row, where, "prompt", "question", "instruction", "goal", "text")
