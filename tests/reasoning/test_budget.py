from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from condition.errors import BudgetError, SettingsError
from condition.reasoning.budget import Budget, limited
from condition.reasoning.steps import Program, ask, run, together
from condition.types import Completion, Message, Sampling

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle


def chatter(model: Any, found: list[str]) -> Program[str]:
    """Asks until it is stopped; keeps what it heard."""
    try:
        while True:
            ((said, *_),) = yield from ask(model, [(Message("user", f"say {len(found)}"),)])
            found.append(said.text)
    except BudgetError as error:
        return str(error)


def one(model: Any) -> Program[str]:
    ((said, *_),) = yield from ask(model, [(Message("user", "x"),)], Sampling(temperature=1.0))
    return said.text


def test_calls_are_counted(oracle: type[Oracle]) -> None:
    model, found = oracle(lambda text: "word"), []
    ((why, usage),) = run([limited(chatter(model, found), Budget(calls=3))])
    assert (len(found), model.calls, usage.output_tokens) == (3, 3, 3)
    assert "3 of 3 calls are spent" in str(why)


def test_tokens_are_counted(oracle: type[Oracle]) -> None:
    model, found = oracle(lambda text: "two words"), []  # each call: 2 tokens read, 2 written
    ((why, _),) = run([limited(chatter(model, found), Budget(tokens=9))])
    assert len(found) == 3
    assert "12 of 9 tokens" in str(why)
    ((why, _),) = run([limited(chatter(model, found), Budget(tokens=8))])
    assert len(found) == 3 + 2  # all of them spent, and no more
    assert "8 of 8 tokens" in str(why)


def test_tokens_that_nobody_tells_can_not_be_counted(oracle: type[Oracle]) -> None:
    model, found = oracle(lambda text: Completion("a")), []
    ((why, _),) = run([limited(chatter(model, found), Budget(tokens=1000))])
    assert len(found) == 1
    assert "does not say how many tokens it used" in str(why)
    run([limited(chatter(model, found), Budget(calls=3))])
    assert len(found) == 4


def test_what_was_not_told_once_can_not_be_counted_later_either(oracle: type[Oracle]) -> None:
    """Also for a program that asks again, however often it was refused."""
    model = oracle(lambda text: Completion("a"))

    def stubborn() -> Program[int]:
        refused = 0
        for _ in range(4):
            try:
                yield from ask(model, [(Message("user", "x"),)])
            except BudgetError:
                refused += 1
        return refused

    assert run([limited(stubborn(), Budget(tokens=1000))])[0].result == 3
    assert len(model.prompts) == 1


def test_seconds_are_counted(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        time.sleep(0.02)
        return "a"

    model, found = oracle(rule), []
    ((why, _),) = run([limited(chatter(model, found), Budget(seconds=0.05))])
    assert 1 <= len(found) <= 3
    assert "0.05 seconds" in str(why)


def test_each_problem_has_a_budget_of_its_own(oracle: type[Oracle]) -> None:
    model, found = oracle(lambda text: "word"), [[], [], []]
    run([limited(chatter(model, mine), Budget(calls=calls)) for mine, calls in zip(found, (1, 5, 2), strict=True)])
    assert [len(mine) for mine in found] == [1, 5, 2]
    assert model.calls == 5


def test_samples_beyond_the_calls_are_not_drawn(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: ["a", "b", "c", "d"])
    ((ends, _),) = run([limited(together(one(model) for _ in range(4)), Budget(calls=3))])
    assert isinstance(ends, list)
    assert ends[:3] == ["a", "b", "c"]
    assert isinstance(ends[3], BudgetError)
    assert model.samplings[0].n == 3


def test_inner_budgets_hold_inside_outer_ones(oracle: type[Oracle]) -> None:
    model, found = oracle(lambda text: "word"), []
    run([limited(limited(chatter(model, found), Budget(calls=2)), Budget(calls=5))])
    assert len(found) == 2


def test_no_budget_is_no_limit(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "a")
    assert run([limited(one(model), None)])[0].result == "a"


@pytest.mark.parametrize("wrong", [{"calls": 0}, {"seconds": -1}, {"token": 5}])
def test_impossible_budgets(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Budget(**wrong)
