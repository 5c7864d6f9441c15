"""Every implementer of `Prompt` through the same checks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate, FewShotPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableLambda

import condition as cd
from condition.errors import PromptError
from condition.prompts.template import ChatPrompt, LangChainPrompt, TextPrompt, as_prompt
from condition.testing import check_prompt
from condition.types import Example, Message

FEW_SHOT = FewShotPromptTemplate(
    examples=[{"q": "1", "a": "2"}],
    example_prompt=PromptTemplate.from_template("{q}{a}"),
    suffix="{x} {y}",
    input_variables=["x", "y"],
)
PARTIAL = PromptTemplate.from_template("{a} {x} {y}").partial(a="1")
SHOTS = [Example({"x": "1", "y": "2"}, "3"), Example({"x": "4", "y": "5"}, "9")]

# Each has the variables x and y.
PROMPTS: dict[str, Any] = {
    "ChatPrompt": ChatPrompt([("system", "{x}"), ("user", "{y}")]),
    "ChatPrompt in Jinja2": ChatPrompt([("user", "{{ x }} {{ y }}")], template_format="jinja2"),
    "ChatPrompt with Messages": ChatPrompt([Message("system", "{x}"), ("user", "{x} {y}")]),
    "TextPrompt": TextPrompt("{x} {y}"),
    "TextPrompt in Jinja2": TextPrompt("{{ x }} {{ y }}", template_format="jinja2"),
    "FewShotPrompt": cd.FewShotPrompt("{x} {y}", SHOTS, k=1),
    "FewShotPrompt with a selector": cd.FewShotPrompt("{x} {y}", SHOTS, selector=cd.BM25Selector(SHOTS), k=1),
    "ControlCodes": cd.ControlCodes("news")(ChatPrompt([("user", "{x} {y}")])),
    "a string": as_prompt("{x} {y}"),
    "pairs": as_prompt([("user", "{x} {y}")]),
    "a PromptTemplate": as_prompt(PromptTemplate.from_template("{x} {y}")),
    "a partial PromptTemplate": as_prompt(PARTIAL),
    "a ChatPromptTemplate": as_prompt(ChatPromptTemplate([("human", "{x} {y}")])),
    "a template with a placeholder": LangChainPrompt(
        ChatPromptTemplate([MessagesPlaceholder("past", optional=True), ("human", "{x} {y}")])
    ),
    "a few-shot template": as_prompt(FEW_SHOT),
}


@pytest.mark.parametrize("name", PROMPTS)
class TestEveryPrompt:
    def test_keeps_the_promises_of_a_prompt(self, name: str) -> None:
        check_prompt(PROMPTS[name])

    def test_is_one_that_reads_x_and_y(self, name: str) -> None:
        assert as_prompt(PROMPTS[name]) is PROMPTS[name]
        assert PROMPTS[name].variables == frozenset({"x", "y"})

    def test_misses_a_value_in_our_words(self, name: str) -> None:
        with pytest.raises(PromptError, match="no value for 'y'; given: 'x'"):
            PROMPTS[name].format(x="1")


@pytest.mark.parametrize("template", [PARTIAL, ChatPromptTemplate([("human", "{x}")]), FEW_SHOT, "{x}"])
def test_a_template_is_taken_as_it_is(template: Any) -> None:
    check_prompt(template)


def test_one_that_looks_for_passages() -> None:
    found = RunnableLambda(lambda asked: [Document("Built of oak.")])
    prompt = cd.RetrievalPrompt("{passages}\n\n{question}", found)
    check_prompt(prompt, {"question": "Of what?"})
