"""Prompts of steps, and going on with a conversation, be it chat turns or plain text that no template touches.

asked = add(messages, "Let's think step by step.")
asked = reply(asked, "2 + 2 = 4.", "Therefore, the answer is")
"""

from __future__ import annotations

from typing import Any, final

from condition.errors import PromptError
from condition.prompts.fill import fill
from condition.prompts.placed import text_message
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages


def add(messages: Messages, words: str) -> Messages:
    """The messages with words at the end of the last one."""
    *before, last = messages
    space = "\n\n" if last.role != "text" else "" if last.content[-1:].isspace() else " "
    return (*before, Message(last.role, f"{last.content}{space}{words}", last.values))


def reply(messages: Messages, said: str, then: str) -> Messages:
    """The messages, what the model said to them, and what it is told next. It begins with the messages, unchanged."""
    if messages[-1].role != "text":
        return (*messages, Message("assistant", said), Message("user", then))
    *before, last = messages
    return (*before, text_message([last, Message("text", said, ((0, len(said)),)), Message("text", f"\n{then}")]))


@final
class Triggered:
    """A prompt with words at the end of its last message."""

    def __init__(self, prompt: Prompt, words: str) -> None:
        self.prompt = prompt
        self.words = words
        self.parse = getattr(prompt, "parse", None)

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def format(self, /, **inputs: object) -> Messages:
        return add(fill(self.prompt, inputs), self.words)


def prompt_with(x: Any, *needed: str) -> Prompt:
    """A prompt with the variables that a step fills. Raises PromptError where it lacks one."""
    prompt = as_prompt(x)
    if missing := set(needed) - prompt.variables:
        raise PromptError(f"the prompt has no {{{sorted(missing)[0]}}}, which this step fills: {prompt!r:.120}")
    return prompt
