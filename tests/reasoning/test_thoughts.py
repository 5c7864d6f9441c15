from __future__ import annotations

import pytest

from condition.errors import BudgetError, ModelError, PromptError
from condition.reasoning.thoughts import PROMPTS, Prompts, surviving, worth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Sure!", 20),
        ("It is not impossible: likely", 1),
        ("impossible", 0.001),
        ("7 of 10... so 7", 7),
        ("I am not sure", 1),
        ("That is not likely.", 0.001),
        ("It isn't likely.", 0.001),
        ("That isn’t impossible", 1),
        ("I am not very sure", 1),
        ("not at all likely", 0.001),
        ("very likely", 1),
        ("I think not\nsure", 20),
        ("unlikely; 3/10", 3),
    ],
)
def test_worth(text: str, value: float) -> None:
    assert worth(text) == value


def test_no_worth() -> None:
    with pytest.raises(ValueError, match="no number"):
        worth("who knows")


def test_each_prompt_can_be_replaced() -> None:
    prompts = Prompts({"rank": "{candidates} for {reader}?"})
    assert prompts.variables == {"question", "reader"}
    inputs = {"question": "q", "reader": "me"}
    assert prompts.fill("rank", inputs, candidates="1. a")[0].content == "1. a for me?"
    assert "1. first\n2. second" in prompts.fill("reason", inputs, ("first", "second"))[0].content
    assert "Steps so far:\nnone yet" in prompts.fill("propose", inputs, thoughts=3)[0].content
    assert set(PROMPTS) == {"propose", "evaluate", "reason", "rank"}
    with pytest.raises(PromptError, match=r"no \{steps\}"):
        Prompts({"propose": "{question}"})


def test_some_may_fail_and_a_budget_may_not() -> None:
    failed, over = ModelError("bad"), BudgetError("over")
    assert surviving([1, failed, 3], 0) == [1, 0, 3]
    assert surviving([], 0) == []
    with pytest.raises(ModelError):
        surviving([failed, failed], 0)
    with pytest.raises(BudgetError):
        surviving([1, over], 0)
