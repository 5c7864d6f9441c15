"""A prompt with words of one's own behind what is asked, and a conversation that goes on behind an answer.

Told(prompt, "A helpful answer:").format(question="Why?")     # the last message ends with the words

asked = tell(messages, "Let's think step by step.", " ")
tell(answered(asked, "2 + 2 = 4."), "Therefore, the answer is")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from condition.errors import PromptError
from condition.prompts.compose import Composable, chooses, filled, fixed, previewed
from condition.prompts.placed import text_message
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages

APART = "\n\n"


@final
class Told(Composable):
    """A prompt whose last message ends with words that are the same for all inputs. They are never parsed.

    `gap` stands before them in a text prompt, as in `tell`.
    """

    def __init__(self, prompt: object, words: str, gap: str = APART) -> None:
        if not words.strip():
            raise PromptError("no words to tell: give a sentence, or use the prompt as it is")
        self.prompt, self.words, self.gap = as_prompt(prompt), words, gap
        self.parse = getattr(self.prompt, "parse", None)

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def format(self, /, **inputs: object) -> Messages:
        """The prompt's messages, the last one with the words behind it."""
        return tell(filled(self.prompt, inputs), self.words, self.gap)

    def preview(self, /, **inputs: object) -> Messages:
        return tell(previewed(self.prompt, inputs), self.words, self.gap)

    @property
    def chooses(self) -> bool:
        return chooses(self.prompt)

    def fixed(self, inputs: Mapping[str, object], /) -> Told:
        return Told(fixed(self.prompt, inputs), self.words, self.gap)

    def read(self, other: object, /) -> Prompt:
        """A string becomes what it would beside the prompt within."""
        return self.prompt.read(other) if isinstance(self.prompt, Composable) else as_prompt(other)

    def __repr__(self) -> str:
        return f"Told({self.prompt!r}, {self.words!r})"


def tell(messages: Messages, words: str, gap: str = APART) -> Messages:
    """Messages with words behind the last one; a turn of its own where that was not the user's.

    `gap` stands before them in text; a single space is left out where white space is there already.
    """
    *before, last = messages
    if last.role == "text":
        space = "" if gap == " " and last.content[-1:].isspace() else gap
        return (*before, text_message([last, Message("text", f"{space}{words}")]))
    if last.role == "user":
        return (*before, Message("user", f"{last.content}{APART}{words}"))
    return (*messages, Message("user", words))


def answered(messages: Messages, said: str) -> Messages:
    """Messages with an answer behind them. They begin with the messages, unchanged."""
    *before, last = messages
    if last.role == "text":
        return (*before, text_message([last, Message("text", said, ((0, len(said)),))]))
    return (*messages, Message("assistant", said))
