from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from condition.errors import SettingsError
from condition.prompts.template import ChatPrompt
from condition.reasoning.abstain import Abstain
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.direct import Direct, as_steps
from condition.types import Answer, Usage

if TYPE_CHECKING:
    from tests.conftest import TinyModel


def test_all_problems_are_one_batch() -> None:
    sizes: list[int] = []

    class Foreign:
        def invoke(self, inputs: object) -> Answer:
            raise AssertionError("one by one")

        def batch(self, inputs: list[dict[str, str]]) -> list[Answer]:
            sizes.append(len(inputs))
            return [Answer(i["x"], usage=Usage(output_tokens=3)) for i in inputs]

    answers = Direct(Foreign(), ["x"]).batch([{"x": "a"}, {"x": "b"}])
    assert [(a.text, a.usage.output_tokens) for a in answers] == [("a", 3), ("b", 3)]
    assert sizes == [2]


def test_one_that_fails_is_found_among_many() -> None:
    def answer(inputs: dict[str, int]) -> str:
        return str(10 // inputs["x"])

    answers = Direct(RunnableLambda(answer)).batch([{"x": 1}, {"x": 0}, {"x": 5}])
    assert [a.text for a in answers] == ["10", "", "2"]
    assert "ZeroDivisionError" in str(answers[1].error)
    odd = Direct(RunnableLambda(lambda inputs: 5)).invoke({})
    assert "gave int, which has no text" in str(odd.error)


def test_what_becomes_of_a_chain(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt(ChatPrompt([("user", "{q}")]))
    asked = as_steps(model)
    assert isinstance(asked, ChainOfThought)
    assert as_steps(asked) is asked
    abstain = as_steps(Abstain(model, max_tokens=2))
    assert isinstance(abstain, Direct)
    assert abstain.variables == {"q"}
    for bare in (tiny_model(), FakeListChatModel(responses=["7"])):
        with pytest.raises(SettingsError, match=r"is a model without a prompt.* ChainOfThought\(model, prompt\)"):
            as_steps(bare)
    with pytest.raises(SettingsError, match="str is no chain"):
        as_steps("{q}")
