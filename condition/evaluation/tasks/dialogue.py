"""Dialogue: open questions and what follows them, rated by a judge. Zheng et al. 2023, arXiv 2306.05685."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from numbers import Real
from typing import Any, Protocol, final

from condition.data.read import locate
from condition.errors import DataError, ModelError, SettingsError
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.task import Pooled, Reply, Task, TaskRow
from condition.prompts.template import ChatPrompt
from condition.types import Sampling

QUESTION = ChatPrompt([("user", "{question}")])
Rated = tuple[str, str]
"""A question, behind what was said before it, and the answer."""


class Rater(Protocol):
    """Rates answers to questions: `RubricJudge` is one."""

    def rate(self, answers: Sequence[tuple[str, str]], /) -> Sequence[Any]:
        """Something with `points`, None where there is no verdict, for each question and answer."""


def dialogue(
    path_or_rows: object,
    /,
    judge: Rater | Callable[[str, str], float | None],
    *,
    turns: int = 2,
    max_tokens: int = 512,
) -> Task:
    """Open questions, such as MT-bench's, whose replies a judge rates, each turn for itself.

    `judge` has a method `rate`, as `RubricJudge`, and is asked about many replies in one call; or it is a function of
    question and answer. From the second turn on the question holds what was said before. `rating`, the headline, is the
    mean of the ratings there are, `rating_turn_1` and `rating_turn_2` those of each turn; `unrated` is how often the
    judge gave none: such a reply is counted, not guessed. Rows have `turns`, of which the first `turns` are asked, or
    `question`; reported by `category` too.
    """
    if turns < 1:
        raise SettingsError(f"turns={turns}: at least the first one is asked")
    _check_judge(judge)
    rows = [_row(row, where, turns) for row, where in locate(path_or_rows)]
    ratings = _Ratings(judge)
    most = max((1 + len(row.then) for row in rows), default=1)
    each = {f"rating_turn_{t + 1}": Pooled(partial(ratings.count, turn=t), _mean) for t in range(most) if most > 1}
    for category in dict.fromkeys(row.inputs["category"] for row in rows):
        if category:
            each[f"rating_{category}"] = Pooled(partial(ratings.count, category=category), _mean)
    return Task(
        "dialogue",
        rows,
        measure=ratings.unrated,
        prepare=ratings.prepare,
        prompt=QUESTION,
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
        splits=lambda row: (row.inputs["category"],) if row.inputs["category"] else (),
        pooled={"rating": Pooled(ratings.count, _mean), **each},
        headline="rating",
        less_is_better=("unrated",),
    )


def _check_judge(judge: Any) -> None:
    """Raises SettingsError before a model is asked."""
    told = f"{type(judge).__name__} rates no answers: give a RubricJudge, or a function of question and answer"
    if hasattr(judge, "rate"):
        return
    if not callable(judge):
        raise SettingsError(told)
    try:
        known = signature(judge)
    except ValueError:  # of a function in C it may not be known
        return
    try:
        known.bind("question", "answer")
    except TypeError as error:
        raise SettingsError(told) from error


@final
class _Ratings:
    """What the judge said, each pair asked about once."""

    def __init__(self, judge: Rater | Callable[[str, str], float | None]) -> None:
        self._judge: Any = judge
        self._known: dict[Rated, float | None] = {}

    def prepare(self, rows: Sequence[TaskRow], replies: Sequence[Reply]) -> None:
        """Ask about all of them in one call."""
        asked = [pair for row, reply in zip(rows, replies, strict=True) for pair in _pairs(row, reply)]
        new = [pair for pair in dict.fromkeys(asked) if pair not in self._known]
        if not new:
            return
        rate: Any = getattr(self._judge, "rate", None)
        found = [self._judge(*pair) for pair in new] if rate is None else [one.points for one in rate(new)]
        if len(found) != len(new):
            raise ModelError(f"the judge gave {len(found)} ratings of {len(new)} answers")
        self._known.update(zip(new, map(_points, found), strict=True))

    def of(self, row: TaskRow, reply: Reply) -> list[float | None]:
        """A rating for each turn."""
        self.prepare([row], [reply])
        return [self._known[pair] for pair in _pairs(row, reply)]

    def unrated(self, row: TaskRow, reply: Reply) -> Mapping[str, float]:
        """The share of turns without a rating."""
        ratings = self.of(row, reply)
        return {"unrated": sum(one is None for one in ratings) / len(ratings)}

    def count(
        self, row: TaskRow, reply: Reply, turn: int | None = None, category: str | None = None
    ) -> tuple[float, float]:
        """The sum of the ratings there are, and their number: of one turn, or of the rows of one category."""
        found = self.of(row, reply) if category in (None, row.inputs["category"]) else []
        there = [one for one in (found if turn is None else found[turn : turn + 1]) if one is not None]
        return sum(there), float(len(there))


def _pairs(row: TaskRow, reply: Reply) -> list[Rated]:
    """Each turn's question, behind the whole conversation before it, with the reply."""
    questions = [str(one["question"]) for one in (row.inputs, *row.then)]
    said = ""
    pairs = []
    for question, answer in zip(questions, reply.turns or (reply.text,), strict=False):
        pairs.append((f"{said}User:\n{question}" if said else question, answer))
        said += f"User:\n{question}\n\nAssistant:\n{answer}\n\n"
    return pairs


def _row(row: Mapping[str, Any], where: str, most: int) -> TaskRow:
    given: Any = row.get("turns")
    if hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(given, list | tuple) and given and all(isinstance(turn, str) for turn in given):
        asked = list(given[:most])
    else:
        asked = [field(row, where, "question", "prompt", "instruction")]
    if not all(question.strip() for question in asked):
        raise DataError(f"{where}: the question is empty")
    identity = next((str(row[name]) for name in ("id", "question_id") if row.get(name) is not None), where)
    inputs = {"question": asked[0], "category": str(row.get("category") or "")}
    return TaskRow(identity, inputs, None, then=tuple({"question": question} for question in asked[1:]))


def _points(found: Any) -> float | None:
    """None for no verdict, and for what is no finite number."""
    if found is None:
        return None
    if not isinstance(found, Real):
        raise DataError(f"the judge gave {found!r:.60}, not a number, or None where it has no verdict")
    return float(found) if math.isfinite(found) else None


def _mean(sums: Sequence[float]) -> float:
    return sums[0] / sums[1] if sums[1] else float("nan")
