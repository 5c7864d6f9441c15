"""A place in a prompt for what was said before.

chat = ChatPrompt([("system", "Be brief.")]) + History() + ChatPrompt([("user", "{question}")])
chat.format(history=[("user", "Hello"), ("assistant", "Good day")], question="Where is Rouen?")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

from langchain_core.messages import BaseMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from pydantic import ValidationError

from condition.errors import PromptError
from condition.prompts.compose import Composable
from condition.prompts.display import Slot
from condition.prompts.messages import ROLES, message_from_langchain
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages, Role


@final
class History(Composable):
    """Messages that are given as a value: ours, LangChain's, or (role, words) pairs. Words are never parsed.

    `optional`: no value is an empty history. `last` keeps the last so many messages.
    """

    def __init__(self, name: str = "history", *, optional: bool = False, last: int | None = None) -> None:
        if not name.isidentifier():
            raise PromptError(f"{name!r} is no name of a variable: use letters, digits and _")
        if last is not None and last < 1:
            raise PromptError(f"last={last} would keep nothing: give 1 or more, or leave the history out")
        self.name, self.optional, self.last = name, optional, last

    @property
    def variables(self) -> frozenset[str]:
        return frozenset() if self.optional else frozenset({self.name})

    def format(self, /, **inputs: object) -> Messages:
        """The messages given. Raises PromptError for what are none."""
        if self.name not in inputs and not self.optional:
            raise PromptError(f"no value for {self.name!r}: give the messages said before, or an empty list")
        given = inputs.get(self.name, ())
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise PromptError(f"{self.name!r} takes a list of messages, not {type(given).__name__}")
        messages = tuple(_message(m, self.name) for m in given)
        return messages if self.last is None else messages[-self.last :]

    def preview(self, /, **inputs: object) -> Messages:
        return self.format(**inputs) if self.name in inputs else (Message("user", Slot(self.name)),)

    def read(self, other: object, /) -> Prompt:
        """A string is one user message."""
        return as_prompt([other] if isinstance(other, Message | BaseMessage) else other)

    def to_langchain(self) -> ChatPromptTemplate:
        """A ChatPromptTemplate with one placeholder."""
        return ChatPromptTemplate([MessagesPlaceholder(self.name, optional=self.optional, n_messages=self.last)])

    def __repr__(self) -> str:
        return f"History({self.name!r}, optional={self.optional}, last={self.last})"


def _message(given: object, name: str) -> Message:
    if isinstance(given, Message):
        return given
    if isinstance(given, BaseMessage):
        return message_from_langchain(given)
    if isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(part, str) for part in given):
        try:
            return Message(cast(Role, ROLES.get(given[0], given[0])), given[1])
        except ValidationError as error:
            raise PromptError(
                f"{name!r}: unknown role {given[0]!r}: use system, user, assistant, tool or text"
            ) from error
    raise PromptError(f"{name!r} takes Messages, LangChain's messages or (role, words) pairs, not {given!r:.60}")
