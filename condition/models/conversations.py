"""Prompts as people type them: a string, Messages, or several of either.

    conversations("Is the sky blue?")                # [(Message("user", "Is the sky blue?"),)]
    conversations([[Message("system", "Be brief."), Message("user", "Why?")], "Why not?"])

What else was given, such as a prompt that nobody has filled, is told what it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from condition.errors import ModelError
from condition.protocols import Prompt
from condition.types import Message, Messages

Said = str | Messages | Sequence[Message]
"""A prompt as people type it: a string stands for one user message."""


def conversations(prompts: Sequence[Said] | Said) -> list[Messages]:
    """Prompts as people type them, as Messages. Raises ModelError for anything else."""
    if isinstance(prompts, str):
        return [conversation(prompts)]
    given = _listed(prompts)
    if given and isinstance(given[0], Message | BaseMessage):
        return [conversation(given)]
    return [conversation(said, f"prompt {i}: " if len(given) > 1 else "") for i, said in enumerate(given)]


def conversation(said: Said, where: str = "") -> Messages:
    """One prompt as Messages; `where` stands before what an error says. Raises ModelError for what is none."""
    if isinstance(said, str):
        return (Message("user", said),)
    messages = _listed(said, where)
    if other := [m for m in messages if not isinstance(m, Message)]:
        raise _no_prompt(said, other[0], where)
    if not messages:
        raise ModelError(f'{where}a prompt without messages: give at least one, such as Message("user", "Hello")')
    return tuple(messages)


def _listed(said: object, where: str = "") -> list[Any]:
    # a value of pydantic's, such as a Message, can be walked through as well: over its fields
    if isinstance(said, Mapping | BaseModel | bytes) or not isinstance(said, Iterable):
        raise _no_prompt(said, said, where)
    return list(said)


def _no_prompt(said: object, part: object, where: str) -> ModelError:
    """What to give instead; `part` is what does not belong into a prompt."""
    advice = ""
    if isinstance(part, BaseMessage):
        advice = ". LangChain's become ours by condition.prompts.template.from_langchain_messages(messages)"
    elif isinstance(part, Mapping):
        advice = (
            ". A prompt's inputs go to model.invoke(inputs) or model.batch([inputs]), a turn is Message(role, content)"
        )
    elif isinstance(part, Prompt):
        advice = ". Fill it: prompt.format(...); or let the model do so: model.with_prompt(prompt).invoke(inputs)"
    return ModelError(f"{where}a prompt is a string or a sequence of Messages, not {said!r:.80}{advice}")
