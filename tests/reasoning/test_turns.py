from __future__ import annotations

import pytest

from condition.errors import PromptError
from condition.reasoning.turns import add, joined, prompt_with, reply
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


def test_joining() -> None:
    assert joined([CHAT, CHAT]) == (*CHAT, CHAT[1])
    assert joined([TEXT, TEXT]) == (Message("text", TEXT[0].content * 2),)


def test_a_step_fills_its_variables() -> None:
    assert prompt_with("{a} {b}", "a").variables == {"a", "b"}
    with pytest.raises(PromptError, match=r"no \{c\}, which this step fills"):
        prompt_with("{a}", "a", "c")
