from __future__ import annotations

import pytest

from condition.errors import PromptError
from condition.prompts.template import ChatPrompt
from condition.protocols import Prompt
from condition.reasoning.turns import Triggered, add, prompt_with, reply
from condition.types import Message

CHAT = (Message("system", "Be brief."), Message("user", "2 + 2?"))
TEXT = (Message("text", "Q: 2 + 2?\nA:"),)


def test_words_at_the_end() -> None:
    assert add(CHAT, "Think.") == (CHAT[0], Message("user", "2 + 2?\n\nThink."))
    assert add(TEXT, "Think.") == (Message("text", "Q: 2 + 2?\nA: Think."),)
    assert add((Message("text", "A:\n"),), "Think.") == (Message("text", "A:\nThink."),)


def test_going_on_keeps_the_beginning() -> None:
    assert reply(CHAT, "4", "Sure?") == (*CHAT, Message("assistant", "4"), Message("user", "Sure?"))
    (text,) = reply(TEXT, " 4", "Sure?")
    assert text.content == TEXT[0].content + " 4\nSure?"


def test_a_prompt_with_words_behind_it() -> None:
    prompt = Triggered(ChatPrompt([("user", "{x}")], parse=str.upper), "Think.")
    assert isinstance(prompt, Prompt)
    assert prompt.variables == {"x"}
    assert prompt.format(x=1, y=2) == (Message("user", "1\n\nThink."),)
    assert prompt.parse is str.upper


def test_a_step_fills_its_variables() -> None:
    assert prompt_with("{a} {b}", "a").variables == {"a", "b"}
    with pytest.raises(PromptError, match=r"no \{c\}, which this step fills"):
        prompt_with("{a}", "a", "c")
