from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from condition.errors import BudgetError
from condition.reasoning.sampled import sampled
from condition.reasoning.steps import Program, ask, run
from condition.types import Answer, Message, Sampling

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

ASKED = [(Message("user", "x"),)]


def test_what_is_greedy_is_drawn_but_for_reading_off(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "a")

    def steps() -> Program[str]:
        yield from ask(model, ASKED, Sampling(max_tokens=5))
        yield from ask(model, ASKED, Sampling(temperature=1.5, seed=7))
        yield from ask(model, ASKED, Sampling(temperature=0.0), fixed=True)
        return "done"

    assert run([sampled(steps(), 0.7, drawn=3)])[0].result == "done"
    assert [(s.temperature, s.seed) for s in model.samplings] == [(0.7, None), (1.5, 10), (0.0, None)]
    assert model.samplings[0].max_tokens == 5
    run([sampled(steps(), 0.7, seed=20)])
    assert [s.seed for s in model.samplings[3:]] == [20, 20, None]


def test_a_budget_that_was_spent_on_the_way_ends_a_sample_that_has_an_error(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if text == "x":
            raise BudgetError("over budget")
        return "a"

    def steps(error: str | None) -> Program[Answer]:
        with contextlib.suppress(BudgetError):
            yield from ask(oracle(rule), ASKED)
        yield from ask(oracle(rule), [(Message("user", "y"),)])
        return Answer("b", error=error)

    assert isinstance(run([sampled(steps("half of it"), 0.7)])[0].result, BudgetError)
    assert run([sampled(steps(None), 0.7)])[0].result == Answer("b")  # it made do without
