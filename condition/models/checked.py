"""Messages that can be rendered."""

from __future__ import annotations

from collections.abc import Sequence

from condition.errors import PromptError
from condition.types import Message, Messages


def checked(messages: Sequence[Message]) -> Messages:
    """The same as Messages. Raises PromptError for none, for text mixed with turns, and for half characters."""
    messages = tuple(messages)
    if not messages:
        raise PromptError("no messages: a prompt has at least one")
    if any(not isinstance(m, Message) for m in messages):
        raise PromptError(f"expected Messages, got {[type(m).__name__ for m in messages]}")
    kinds = {m.role == "text" for m in messages}
    if len(kinds) > 1:
        raise PromptError(f"messages of role 'text' can't be mixed with turns ({roles(messages)})")
    for message in messages:
        check_text(f"{message.role} message", message.content)
    return messages


def check_text(place: str, text: str) -> None:
    """Raises PromptError for a text that no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"the {place} holds half a character, which no tokenizer reads: {error}") from error


def roles(messages: Sequence[Message]) -> str:
    """For error messages."""
    return ", ".join(m.role for m in messages)
