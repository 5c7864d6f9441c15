"""What a problem may cost: calls, tokens, seconds.

    chain = TreeOfThoughts(model, budget=Budget(calls=200, seconds=60))
    answer = chain.invoke({"question": "4 9 10 13"})
    answer.error                # None, or what ran out; `answer.text` is what was found until then

A budget is that of one problem. It is looked at before the model is asked: a call under way is finished.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar, final

from pydantic import Field

from condition.errors import BudgetError, SettingsError
from condition.reasoning.steps import Ask, Program, Request, advanced, usage_of
from condition.types import Options

T = TypeVar("T")


@final
class Budget(Options):
    """Limits for one problem; None is no limit. What does not fit is a SettingsError."""

    calls: int | None = Field(default=None, ge=1)
    """Completions that a model is asked for: a prompt with 8 samples is 8 calls."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens read and written, as models report them. One that reports none is asked once."""
    seconds: float | None = Field(default=None, gt=0)
    """Since the problem was begun, waiting for other problems included."""


def limited(program: Program[T], budget: Budget | None) -> Program[T]:
    """A program that gets a BudgetError for what it asks beyond its budget, and can end with what it has.

    The last request that fits in part is cut: a prompt with more samples than calls are left gets as many as are left.
    """
    if budget is None:
        return (yield from program)
    if not isinstance(budget, Budget):
        raise SettingsError(f"budget={budget!r:.60}: give Budget(calls=200), say")
    calls, tokens, is_told, began = 0, 0, True, time.monotonic()
    outcome = advanced(program, None)
    while outcome.asks is not None:
        over = _over(budget, tokens if is_told else None, time.monotonic() - began)
        fitting: list[Request] = []
        for request in () if over else outcome.asks:
            left = None if budget.calls is None else budget.calls - calls
            if left is not None and left < request.calls:
                over = f"{budget.calls} of {budget.calls} calls are spent"
                if left == 0 or not isinstance(request, Ask):
                    break
                request = request.of(left)
            fitting.append(request)
            calls += request.calls
        replies = list((yield fitting)) if fitting else []
        tokens += sum(usage_of(reply).total_tokens for reply in replies)
        is_told = is_told and all(isinstance(reply, Exception) or usage_of(reply).total_tokens for reply in replies)
        refused = BudgetError(f"over budget: {over}; give the chain a larger Budget, or use what it found")
        outcome = advanced(program, _filled(replies, len(outcome.asks), refused))
    return outcome.value()


def _over(budget: Budget, tokens: int | None, seconds: float) -> str | None:
    if budget.tokens is not None and tokens is None:
        return "the model does not say how many tokens it used, so they can't be counted: limit calls or seconds"
    if budget.tokens is not None and tokens is not None and tokens >= budget.tokens:
        return f"{tokens} of {budget.tokens} tokens are spent"
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"{seconds:.3g} of {budget.seconds:g} seconds are spent"
    return None


def _filled(replies: Sequence[Any], length: int, refused: BudgetError) -> list[Any]:
    return [*replies, *[refused] * (length - len(replies))]
