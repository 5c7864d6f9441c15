"""A chain's steps, drawn instead of greedy: what self-consistency and best-of-n have in common.

ends = yield from together(sampled(chain.within(inputs), 0.7) for _ in range(16))    # one prompt, 16 samples
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from condition.errors import BudgetError, ConditionError
from condition.reasoning.steps import Ask, Program, Request, advanced
from condition.types import Answer, Completion

T = TypeVar("T")


def sampled(program: Program[T], temperature: float, seed: int | None = None, drawn: int = 0) -> Program[T]:
    """The program with its greedy questions asked at a temperature; those that only read off a result stay greedy.

    `drawn` samples were drawn before these: a seed counts on from there, so that no sample is drawn twice.
    Raises BudgetError where a budget ended the sample, also where the program made an answer of what it had.
    """
    refused: BudgetError | None = None
    outcome = advanced(program, None)
    while outcome.asks is not None:
        replies = yield [_hot(request, temperature, seed, drawn) for request in outcome.asks]
        refused = next((reply for reply in replies if isinstance(reply, BudgetError)), refused)
        outcome = advanced(program, replies)
    result = outcome.value()
    if refused is not None and isinstance(result, Answer) and result.error is not None:
        raise refused
    return result


def written(ends: Sequence[Answer | ConditionError]) -> list[Completion]:
    """What each sample wrote first, or says; those that could not be asked wrote nothing."""
    return [
        end.candidates[0] if end.candidates else Completion(end.reasoning or end.text)
        for end in ends
        if isinstance(end, Answer)
    ]


def _hot(request: Request, temperature: float, seed: int | None, drawn: int) -> Request:
    if not isinstance(request, Ask) or request.fixed:
        return request
    own = request.sampling
    changes: dict[str, float | int] = {} if own.temperature else {"temperature": temperature}
    if seed is not None or own.seed is not None:
        changes["seed"] = (seed if seed is not None else own.seed or 0) + drawn
    return request._replace(sampling=own.model_copy(update=changes))
