"""Words behind what is asked, in every kind of prompt, and kept when the prompt is saved."""

from __future__ import annotations

import pytest

from condition.errors import PromptError
from condition.prompts.history import History
from condition.prompts.saved import prompt_from_json, prompt_to_json
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.prompts.told import Told, answered, tell
from condition.types import Message

CHAT = ChatPrompt([("system", "Be brief."), ("user", "{q}")])


def test_the_last_message_ends_with_them() -> None:
    assert Told(CHAT, "Well?").format(q="Why?") == (Message("system", "Be brief."), Message("user", "Why?\n\nWell?"))
    assert Told(TextPrompt("Q: {q}"), "A {good} one:").format(q="Why?")[0].content == "Q: Why?\n\nA {good} one:"
    assert Told("{q}", "Well?").variables == {"q"}


def test_with_a_space_they_go_on_in_the_line() -> None:
    words = "Think."
    assert tell((Message("text", "Q: 2 + 2?\nA:"),), words, " ") == (Message("text", "Q: 2 + 2?\nA: Think."),)
    assert tell((Message("text", "A:\n"),), words, " ") == (Message("text", "A:\nThink."),)
    assert tell((Message("text", "A:\n"),), words) == (Message("text", "A:\n\n\nThink."),)
    assert tell((Message("user", "2 + 2?"),), words, " ") == (Message("user", "2 + 2?\n\nThink."),)
    (text,) = tell((Message("text", "A: 4", ((3, 4),)),), words, " ")
    assert text.values == ((3, 4),)


class Own:
    variables = frozenset({"q"})

    def format(self, *, q: object) -> tuple[Message, ...]:
        return (Message("user", str(q)),)


@pytest.mark.parametrize("prompt", [CHAT, TextPrompt("{q}"), Own()], ids=["chat", "text", "own"])
def test_a_row_may_have_more_columns(prompt: object) -> None:
    told = Told(prompt, "Think.", " ")
    assert told.format(q=1, y=2) == told.format(q=1)
    assert told.preview()[-1].content.startswith("{q}")


def test_the_parser_is_the_prompts() -> None:
    assert Told(ChatPrompt([("user", "{x}")], parse=str.upper), "Think.").parse is str.upper


def test_behind_an_answer_they_are_a_turn() -> None:
    said = [("user", "Why?"), ("assistant", "So.")]
    assert Told(History(), "Well?").format(history=said)[2] == Message("user", "Well?")


def test_a_conversation_goes_on() -> None:
    asked = Told(CHAT, "A bad one:").format(q="Why?")
    both = tell(answered(asked, "no"), "A good one:")
    assert [m.role for m in both] == ["system", "user", "assistant", "user"]
    text = tell(answered(Told(TextPrompt("{q}"), "bad:").format(q="Why?"), " no"), "good:")
    assert [m.content for m in text] == ["Why?\n\nbad: no\n\ngood:"]
    assert text[0].values  # an answer's words are data: no special token acts in them


@pytest.mark.parametrize("prompt", [Told(CHAT, "Well?"), Told(Told(TextPrompt("{q}"), "a", " "), "b")])
def test_it_is_saved(prompt: Told) -> None:
    assert prompt_from_json(prompt_to_json(prompt)).format(q="Why?") == prompt.format(q="Why?")


def test_no_words() -> None:
    with pytest.raises(PromptError, match="no words to tell"):
        Told(CHAT, " ")
