"""Prompts of ours as LangChain templates: turns and text, for chat models, LLMs and the way back."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate

from condition.errors import PromptError
from condition.prompts.messages import from_langchain_messages
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.prompts.wrapped import wrapped
from condition.types import Message

CHAT = ChatPrompt([("system", "Be {tone}."), ("user", "{q}")])
TEXT = TextPrompt("{tone}: {q}")


def test_turns() -> None:
    value = wrapped(CHAT).invoke({"tone": "brief", "q": "{why}"})
    assert [(m.type, m.content) for m in value.to_messages()] == [("system", "Be brief."), ("human", "{why}")]
    assert value.to_string() == "System: Be brief.\nHuman: {why}"


def test_text_is_plain_to_an_llm_human_to_a_chat_model_and_text_to_us() -> None:
    value = wrapped(TEXT).invoke({"tone": "brief", "q": "{why}"})
    assert value.to_string() == "brief: {why}"
    (message,) = value.to_messages()
    assert isinstance(message, HumanMessage)
    assert from_langchain_messages([message]) == (Message("text", "brief: {why}"),)
    assert wrapped(TEXT).format(tone="brief", q="{why}") == "brief: {why}"
    assert asyncio.run(wrapped(TEXT).ainvoke({"tone": "brief", "q": "{why}"})) == value


def test_what_langchain_filled_in_comes_back_filled_in() -> None:
    for prompt in (CHAT, TEXT):
        template = wrapped(prompt)
        assert as_prompt(template) is prompt
        half = as_prompt(template.partial(tone="brief"))
        assert half.variables == {"q"}
        assert half.format(q="Why?") == prompt.format(tone="brief", q="Why?")


def test_inside_a_langchain_template() -> None:
    template = ChatPromptTemplate([("system", "First."), wrapped(CHAT)])
    messages = template.format_messages(tone="brief", q="Why?")
    assert [m.content for m in messages] == ["First.", "Be brief.", "Why?"]


def test_a_missing_value() -> None:
    with pytest.raises(PromptError, match=r"^no value for 'tone'; given: 'q', 'z'$"):
        wrapped(CHAT).invoke({"q": "1", "z": "2"})
    assert "Be {tone}." in wrapped(CHAT).pretty_repr()
