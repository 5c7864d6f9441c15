"""Whose words are whose, by hand: templates are functions here, tokens are ranges of characters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from condition.errors import PromptError
from condition.models.spans import Piece, chat_pieces, spans_of, text_pieces
from condition.types import Message, Span

TURNS = (Message("system", " Be brief. "), Message("user", "Why?"))


def plain(messages: Sequence[Message]) -> str:
    return "".join(f"<{m.role}>{m.content}" for m in messages) + "<assistant>"


def test_words_stand_between_what_the_template_writes() -> None:
    assert chat_pieces(TURNS, plain) == [
        Piece("template", "<system>"),
        Piece("system", " Be brief. "),
        Piece("template", "<user>"),
        Piece("user", "Why?"),
        Piece("template", "<assistant>"),
    ]


def test_a_template_that_trims_shows_what_is_left() -> None:
    def trimmed(messages: Sequence[Message]) -> str:
        return "".join(f"[{m.content.strip()}]" for m in messages)

    assert [p.text for p in chat_pieces(TURNS, trimmed) if p.role != "template"] == ["Be brief.", "Why?"]


def test_a_template_that_rewrites_one_turn_is_asked_with_marks() -> None:
    def shouting(messages: Sequence[Message]) -> str:
        return "".join(f"[{m.content.upper() if m.content == 'Why?' else m.content}]" for m in messages)

    found = chat_pieces(TURNS, shouting)
    assert [p.text for p in found if p.role != "template"] == [" Be brief. ", "WHY?"]
    assert "".join(p.text for p in found) == shouting(TURNS)


def test_a_template_that_drops_or_repeats_words_is_refused() -> None:
    with pytest.raises(PromptError, match="drops the words of a system message"):
        chat_pieces(TURNS, lambda messages: messages[-1].content)
    with pytest.raises(PromptError, match="moves the words of a system message"):
        chat_pieces(TURNS, lambda messages: "|".join(m.content for m in (*messages, *messages)))


def test_values_are_parted_from_a_text_prompts_own_words() -> None:
    message = Message("text", "Q: why? A:", ((3, 7),))
    assert text_pieces(message) == [Piece("text", "Q: "), Piece("text", "why?", is_value=True), Piece("text", " A:")]
    assert [p.acts for p in text_pieces(message)] == [True, False, True]


def test_a_token_across_a_border_is_the_messages() -> None:
    """<user> is 6 characters and Why? 4; the third token holds the last of the one and the first of the other."""
    pieces = [Piece("template", "<user>"), Piece("user", "Why?"), Piece("template", "</s>")]
    spans = spans_of(pieces, [(0, 3), (3, 5), (5, 7), (7, 10), (10, 12), (12, 14)])
    assert spans == [Span("template", 0, 2), Span("user", 2, 4), Span("template", 4, 6)]


def test_neighbours_of_one_role_but_two_messages_are_two_spans() -> None:
    pieces = [Piece("user", "ab"), Piece("user", "cd")]
    assert spans_of(pieces, [(0, 1), (1, 2), (2, 4)]) == [Span("user", 0, 2), Span("user", 2, 3)]
