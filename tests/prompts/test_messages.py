"""LangChain's messages become ours with all that they say."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage

from condition.errors import PromptError
from condition.prompts.messages import from_langchain_messages, to_langchain_message
from condition.types import Message

ADD = ToolCall(name="add", args={"a": 1, "of": "Käse"}, id="1")
ADDED = '{"name": "add", "arguments": {"a": 1, "of": "Käse"}}'


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (AIMessage("", tool_calls=[ADD]), ADDED),
        (AIMessage("Let me see.", tool_calls=[ADD, ADD]), f"Let me see.\n{ADDED}\n{ADDED}"),
        (
            AIMessage([{"type": "text", "text": "So:"}, {"type": "tool_use", "id": "1"}], tool_calls=[ADD]),
            f"So:\n{ADDED}",
        ),
        (AIMessage([{"type": "text", "text": "So:"}, {"type": "tool_call", **ADD}], tool_calls=[ADD]), f"So:\n{ADDED}"),
        (AIMessage("no call"), "no call"),
        (AIMessage([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello"}]), "Hello"),
    ],
)
def test_calls_stand_behind_the_text(message: AIMessage, words: str) -> None:
    assert from_langchain_messages([message]) == (Message("assistant", words),)


def test_a_conversation_with_a_tool() -> None:
    given = [HumanMessage("1 + 2?"), AIMessage("", tool_calls=[ADD]), ToolMessage("3", tool_call_id="1", name="add")]
    ours = from_langchain_messages(given)
    assert [(m.role, m.content) for m in ours] == [("user", "1 + 2?"), ("assistant", ADDED), ("tool", "3")]
    assert from_langchain_messages([to_langchain_message(m) for m in ours]) == ours


def test_other_content_is_still_refused() -> None:
    content: list[Any] = [{"type": "text", "text": "see"}, {"type": "image", "url": "x"}]
    with pytest.raises(PromptError, match="reads text only"):
        from_langchain_messages([AIMessage(content, tool_calls=[ADD])])
