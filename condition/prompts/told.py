"""A prompt with words of one's own behind what is asked, and a conversation that goes on behind an answer.

Told(prompt, "A helpful answer:").format(question="Why?")     # the last message ends with the words
"""

from __future__ import annotations

from typing import final

from condition.errors import PromptError
from condition.prompts.compose import Composable
from condition.prompts.placed import text_message
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages


@final
class Told(Composable):
    """A prompt whose last message ends with words that are the same for all inputs. They are never parsed."""

    def __init__(self, prompt: object, words: str) -> None:
        if not words.strip():
            raise PromptError("no words to tell: give a sentence, or use the prompt as it is")
        self.prompt, self.words = as_prompt(prompt), words
        self.parse = getattr(self.prompt, "parse", None)

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def format(self, /, **inputs: object) -> Messages:
        """The prompt's messages, the last one with the words behind it."""
        return tell(self.prompt.format(**inputs), self.words)

    def preview(self, /, **inputs: object) -> Messages:
        shown = getattr(self.prompt, "preview", self.prompt.format)
        return tell(shown(**inputs), self.words)

    def read(self, other: object, /) -> Prompt:
        """A string becomes what it would beside the prompt within."""
        own = getattr(self.prompt, "read", as_prompt)
        prompt: Prompt = own(other)
        return prompt

    def __repr__(self) -> str:
        return f"Told({self.prompt!r}, {self.words!r})"


def tell(messages: Messages, words: str) -> Messages:
    """Messages with words behind the last one; a turn of its own where that was not the user's."""
    *before, last = messages
    if last.role == "text":
        return (*before, text_message([last, Message("text", f"\n\n{words}")]))
    if last.role == "user":
        return (*before, Message("user", f"{last.content}\n\n{words}"))
    return (*messages, Message("user", words))


def answered(messages: Messages, said: str) -> Messages:
    """Messages with an answer behind them."""
    *before, last = messages
    if last.role == "text":
        return (*before, text_message([last, Message("text", said, ((0, len(said)),))]))
    return (*messages, Message("assistant", said))
