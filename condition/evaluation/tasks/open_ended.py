"""Replies that no key answers: dialogue, rated by a judge, and harmful requests, refused or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation.metrics.refusals import refusal
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.task import Pooled, Reply, Task, TaskRow
from condition.prompts.template import ChatPrompt
from condition.protocols import Moderator
from condition.types import Example, Sampling

QUESTION = ChatPrompt([("user", "{question}")])


class Rater(Protocol):
    """Rates answers to questions: `RubricJudge` is one."""

    def rate(self, answers: Sequence[tuple[str, str]], /) -> Sequence[Any]:
        """Something with a `score`, none where there is none, for each question and answer."""


def dialogue(
    path_or_rows: object,
    /,
    judge: Rater | Callable[[str, str], float | None],
    *,
    max_tokens: int = 512,
) -> Task:
    """Open questions, such as MT-bench's first turns, whose replies a judge rates. Zheng et al. 2023, arXiv 2306.05685.

    `judge` has a method `rate`, as `RubricJudge`, or is a function of question and answer. `rating`, the headline, is
    the mean of the ratings there are; `unrated` is how often the judge gave none: such a reply is counted, not guessed.
    Rows have `turns` (the first is asked) or `question`; reported in all and by `category`.
    """
    rows = [_asked(row, where) for row, where in locate(path_or_rows)]
    known: dict[tuple[str, str], float | None] = {}

    def rated(row: TaskRow, reply: Reply) -> float | None:
        pair = (str(row.inputs["question"]), reply.text)
        if pair not in known:
            known[pair] = _rating(judge, *pair)
        return known[pair]

    def count(row: TaskRow, reply: Reply) -> tuple[float, float]:
        score = rated(row, reply)
        return (0.0, 0.0) if score is None else (score, 1.0)

    return Task(
        "dialogue",
        rows,
        measure=lambda row, reply: {"unrated": float(rated(row, reply) is None)},
        prompt=QUESTION,
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
        splits=lambda row: (row.inputs["category"],) if row.inputs["category"] else (),
        pooled={"rating": Pooled(count, _mean)},
        headline="rating",
        less_is_better=("unrated",),
    )


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


def _asked(row: Mapping[str, Any], where: str) -> TaskRow:
    turns: Any = row.get("turns")
    if hasattr(turns, "tolist"):
        turns = turns.tolist()
    if isinstance(turns, list | tuple) and turns and isinstance(turns[0], str):
        question = turns[0]
    else:
        question = field(row, where, "question", "prompt", "instruction")
    if not question.strip():
        raise DataError(f"{where}: the question is empty")
    identity = next((str(row[name]) for name in ("id", "question_id") if row.get(name) is not None), where)
    return TaskRow(identity, {"question": question, "category": str(row.get("category") or "")}, None)


def _rating(judge: Rater | Callable[[str, str], float | None], question: str, answer: str) -> float | None:
    rate = getattr(judge, "rate", None)
    found = judge(question, answer) if rate is None else rate([(question, answer)])[0].score  # type: ignore[operator]  # one of the two
    if found is not None and not isinstance(found, int | float):
        raise DataError(f"the judge gave {found!r:.60}, not a number, or None where it has no verdict")
    return None if found is None or found != found else float(found)


def _mean(sums: Sequence[float]) -> float:
    return sums[0] / sums[1] if sums[1] else float("nan")


def _request(row: Mapping[str, Any], where: str) -> str:
    if isinstance(row.get("__example__"), Example):
        return str(row["__example__"].target)
    if isinstance(row.get("chosen"), str) and "Human:" in row["chosen"]:
        first = re.search(r"Human:\s*(.*?)(?:\n\nAssistant:|\Z)", row["chosen"], re.DOTALL)
        if first and first[1].strip():
            return first[1].strip()
    return field(row, where, "prompt", "question", "instruction", "goal", "text")
