"""LangChain's messages as ours and back.

    from_langchain_messages([HumanMessage("What is 1 + 2?")])      # (Message("user", "What is 1 + 2?"),)

Tool calls become words, in the form that a model is told to write them in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from condition.errors import PromptError
from condition.types import Message, Messages, Role

ROLES: dict[str, Role] = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "generic": "user"}
_UNSAID = {"tool_use", "tool_call", "invalid_tool_call", "function_call", "thinking", "redacted_thinking", "reasoning"}
"""Content that is no part of the words: what a message's `tool_calls` hold too, and what a model thought before."""


def from_langchain_messages(messages: Sequence[BaseMessage]) -> Messages:
    """LangChain messages as ours. Raises PromptError for content that is not text."""
    return tuple(message_from_langchain(m) for m in messages)


def message_from_langchain(message: BaseMessage) -> Message:
    """One LangChain message as ours; its tool calls follow its text, one a line."""
    return Message(role_of(message), "\n".join(part for part in (_text(message), *_calls(message)) if part))


def to_langchain_message(message: Message) -> BaseMessage:
    """Ours as LangChain's, which `from_langchain_messages` reads back the same."""
    if message.role == "tool":
        return ToolMessage(message.content, tool_call_id="")
    if message.role == "text":
        return HumanMessage(message.content, role="text")  # other chat models read it as a user's
    kinds: dict[str, type[BaseMessage]] = {"system": SystemMessage, "assistant": AIMessage, "user": HumanMessage}
    return kinds[message.role](message.content)


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A tool call as a model writes it."""
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def role_of(message: BaseMessage) -> Role:
    """Who speaks. Raises PromptError for a role that we have not."""
    name = getattr(message, "role", message.type)
    role = ROLES.get(name, name)
    if role not in ("user", "assistant", "system", "tool", "text"):
        raise PromptError(f"a LangChain message of type {message.type!r} by {name!r} has no role here")
    return cast(Role, role)


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = [part for part in message.content if isinstance(part, str) or part.get("type") not in _UNSAID]
    words = [part if isinstance(part, str) else part.get("text") for part in parts]
    if any(not isinstance(word, str) for word in words):
        raise PromptError("this model reads text only; a message holds an image, audio or other content")
    return "".join(cast("list[str]", words))


def _calls(message: BaseMessage) -> Iterator[str]:
    if isinstance(message, AIMessage):
        yield from (call_text(call["name"], call["args"]) for call in message.tool_calls)
