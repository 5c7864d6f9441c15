"""Several calls to one answer: a problem among others is answered as alone, and fails alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from condition.protocols import Chain
from condition.testing.promises import Promises
from condition.types import Answer


def check_chain(
    chain: Any,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    *,
    failing: Mapping[str, Any] | None = None,
    repeatable: bool = True,
) -> None:
    """The promises of a Chain: an Answer for each problem, in order, by `batch` as by `invoke`, and none for none.

    `inputs` are problems; by default two questions in each of its `variables`, or in "question" where it names none.
    `failing` is a problem that it can't solve: its Answer has an `error`, and the others are answered. A chain with
    `variables` refuses inputs without one and names it. `repeatable=False` is for chains that draw.
    """
    own = Promises(Chain, chain)
    names = getattr(chain, "variables", None)
    asked = [dict(one) for one in (_problems(names) if inputs is None else inputs)]
    nothing = own.call("batch takes an empty list", chain.batch, [])
    own.one_each(nothing, 0, "problems", "batch gives [] for no problems")
    together = _answers(own, chain, asked)
    alone = [own.call("invoke answers a problem", chain.invoke, one) for one in asked]
    own.all_are(alone, Answer, "invoke gives an Answer")
    if repeatable:
        for place, (one, other) in enumerate(zip(together, alone, strict=True)):
            own.keeps(
                _told(one) == _told(other),
                "batch says what invoke says, in the order of the problems",
                f"problem {place}: {_told(one)} by batch, {_told(other)} by invoke",
            )
        more = [{**one, "an_input_of_no_use": 7} for one in asked]
        same = [*map(_told, _answers(own, chain, more))] == [*map(_told, together)]
        own.keeps(same, "inputs that it does not use change nothing", "other answers")
    if failing is not None:
        _fails_alone(own, chain, asked, dict(failing), together if repeatable else None)
    if isinstance(names, frozenset | set):
        _misses(own, chain, asked, sorted(names))


def _problems(names: Any) -> list[dict[str, Any]]:
    wanted = sorted(names) if isinstance(names, frozenset | set) else ["question"]
    return [dict.fromkeys(wanted, question) for question in ("What is 2 + 3?", "Is the sky {blue}? 🙂")]


def _answers(own: Promises, chain: Chain, problems: Sequence[Mapping[str, Any]]) -> Sequence[Answer]:
    found = own.call("batch answers problems", chain.batch, list(problems))
    answers = own.one_each(found, len(problems), "problems", "batch gives a list with one Answer for each problem")
    own.all_are(answers, Answer, "batch gives Answers")
    return answers


def _fails_alone(
    own: Promises,
    chain: Chain,
    problems: list[dict[str, Any]],
    failing: dict[str, Any],
    expected: Sequence[Answer] | None,
) -> None:
    promise = "a problem that fails is an Answer with an error, and the others go on"
    found = own.call(promise, chain.batch, [*problems, failing, *problems])
    answers = own.one_each(found, 2 * len(problems) + 1, "problems", promise)
    own.all_are(answers, Answer, promise)
    own.keeps(bool(answers[len(problems)].error), promise, f"{answers[len(problems)]!r} without an error")
    others = [*answers[: len(problems)], *answers[len(problems) + 1 :]]
    if expected is not None:
        own.keeps([*map(_told, others)] == [*map(_told, [*expected, *expected])], promise, [*map(_told, others)])
    single = own.call("invoke gives an Answer for a problem that fails too", chain.invoke, failing)
    own.keeps(isinstance(single, Answer) and bool(single.error), promise, f"{single!r} by invoke")


def _misses(own: Promises, chain: Chain, problems: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    for name in names:
        promise = f"inputs without {name!r} are refused by an error that names it"
        rest = {one: value for one, value in problems[0].items() if one != name}
        error = own.refuses(promise, chain.batch, [problems[0], rest])
        named = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error))
        own.keeps(named is not None, promise, f"{type(error).__name__}: {error}")


def _told(answer: Answer) -> tuple[str, str | None]:
    return answer.text, answer.error
