from __future__ import annotations

import pytest

from condition.errors import PromptError
from condition.reasoning.turns import prompt_with, reply
from condition.types import Message

CHAT = (Message("system", "Be brief."), Message("user", "2 + 2?"))
TEXT = (Message("text", "Q: 2 + 2?\nA:"),)


def test_going_on_keeps_the_beginning() -> None:
    assert reply(CHAT, "4", "Sure?") == (*CHAT, Message("assistant", "4"), Message("user", "Sure?"))
    (text,) = reply(TEXT, " 4", "Sure?")
    assert text.content == TEXT[0].content + " 4\nSure?"
    start = len(TEXT[0].content)
    assert text.values == ((start, start + 2),)  # what was said is data: no special token acts in it


def test_a_step_fills_its_variables() -> None:
    assert prompt_with("{a} {b}", "a").variables == {"a", "b"}
    with pytest.raises(PromptError, match=r"no \{c\}, which this step fills"):
        prompt_with("{a}", "a", "c")
