"""Every implementer of `Prompt` through the same checks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate, FewShotPromptTemplate, MessagesPlaceholder, PromptTemplate

from condition.errors import PromptError
from condition.prompts.template import ChatPrompt, LangChainPrompt, TextPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Message

FEW_SHOT = FewShotPromptTemplate(
    examples=[{"q": "1", "a": "2"}],
    example_prompt=PromptTemplate.from_template("{q}{a}"),
    suffix="{x} {y}",
    input_variables=["x", "y"],
)
PARTIAL = PromptTemplate.from_template("{a} {x} {y}").partial(a="1")

# Each has the variables x and y.
PROMPTS: dict[str, Any] = {
    "ChatPrompt": ChatPrompt([("system", "{x}"), ("user", "{y}")]),
    "ChatPrompt in Jinja2": ChatPrompt([("user", "{{ x }} {{ y }}")], template_format="jinja2"),
    "ChatPrompt with Messages": ChatPrompt([Message("system", "{x}"), ("user", "{x} {y}")]),
    "TextPrompt": TextPrompt("{x} {y}"),
    "TextPrompt in Jinja2": TextPrompt("{{ x }} {{ y }}", template_format="jinja2"),
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
NASTY = ["", "{x}", "{{ x }}", "{% if x %}", "%s", "}", "\x00\x1b", "日本 🙂 مرحبا", "{x.__class__}", "{y}" * 1000]


@pytest.mark.parametrize("name", PROMPTS)
class TestEveryPrompt:
    def test_is_one(self, name: str) -> None:
        assert isinstance(PROMPTS[name], Prompt)
        assert as_prompt(PROMPTS[name]) is PROMPTS[name]

    def test_names_its_variables(self, name: str) -> None:
        assert PROMPTS[name].variables == frozenset({"x", "y"})

    def test_gives_frozen_messages(self, name: str) -> None:
        messages = PROMPTS[name].format(x="1", y="2")
        assert isinstance(messages, tuple)
        assert messages
        assert all(isinstance(m, Message) for m in messages)

    @pytest.mark.parametrize("value", NASTY)
    def test_puts_values_in_as_they_are(self, name: str, value: str) -> None:
        words = "".join(m.content for m in PROMPTS[name].format(x="_", y=value))
        assert words.endswith(value)

    def test_gives_the_same_again(self, name: str) -> None:
        assert PROMPTS[name].format(x="1", y="2") == PROMPTS[name].format(y="2", x="1")

    def test_misses_a_value_by_name(self, name: str) -> None:
        with pytest.raises(PromptError, match="no value for 'y'; given: 'x'"):
            PROMPTS[name].format(x="1")

    def test_ignores_what_it_does_not_use(self, name: str) -> None:
        prompt = PROMPTS[name]
        assert prompt.format(x="1", y="2", z="3") == prompt.format(x="1", y="2")
