"""Who wrote which words of a rendered prompt, and so which of its tokens.

    pieces = chat_pieces(messages, write)                # write: messages to the template's text
    spans_of(pieces, offsets)                            # [Span("template", 0, 3), Span("user", 3, 9), …]

A template is a program that nobody can read from outside: it is asked with placeholders, and what changes is a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from condition.errors import PromptError
from condition.types import Message, Messages, Span

Write = Callable[[Sequence[Message]], str]

_MARK = "qMARKx"
"""Stands for a message's words. No end of it is also its beginning, so that it is found where it was put."""


class Piece(NamedTuple):
    """Words of a rendered prompt and the role that wrote them."""

    role: str
    text: str
    is_value: bool = False

    @property
    def acts(self) -> bool:
        """Whether a special token's name in it is that token."""
        return self.role in ("template", "text") and not self.is_value


def text_pieces(message: Message) -> list[Piece]:
    """A text message's own words and its values."""
    cuts = (0, *(place for value in message.values for place in value), len(message.content))
    pieces = [Piece("text", message.content[a:b], bool(i % 2)) for i, (a, b) in enumerate(pairwise(cuts))]
    return [piece for piece in pieces if piece.text]


def chat_pieces(messages: Messages, write: Write) -> list[Piece]:
    """The rendered prompt, cut where a message's words begin and end.

    `write` is the template. It is asked once more with placeholders for words: what lies between them is its own.
    Raises PromptError for a template that drops or moves a message's words.
    """
    rendered = write(messages)
    marks = [f"xMARKx{i}xMARKx" for i in range(len(messages))]
    skeleton = write([Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)])
    pieces: list[Piece] = []
    rest = skeleton
    for message, mark in zip(messages, marks, strict=True):
        before, found, rest = rest.partition(mark)
        if not found:
            raise PromptError(f"the chat template drops the words of a {message.role} message; spans can't be found")
        pieces += [Piece("template", before), Piece(message.role, message.content)]
    pieces.append(Piece("template", rest))
    for candidate in (pieces, [p if p.role == "template" else Piece(p.role, p.text.strip()) for p in pieces]):
        if "".join(p.text for p in candidate) == rendered:
            return candidate
    return _marked(rendered, messages, write)


def spans_of(pieces: Sequence[Piece], offsets: Sequence[tuple[int, int]]) -> list[Span]:
    """Who wrote each token, by the characters that it stands for: neighbours of one piece are one span."""
    spans: list[Span] = []
    owners = _owners(pieces, offsets)
    for place, owner in enumerate(owners):
        if place and owners[place - 1] == owner:
            spans[-1] = Span(pieces[owner].role, spans[-1].start, place + 1)
        else:
            spans.append(Span(pieces[owner].role, place, place + 1))
    return spans


def _marked(rendered: str, messages: Messages, write: Write) -> list[Piece]:
    """Pieces by putting a mark for one message at a time, for templates that rewrite words or treat turns apart."""
    mark = _MARK
    while mark in rendered:
        mark += "x"
    pieces: list[Piece] = []
    place = 0
    for i, message in enumerate(messages):
        marked = write([*messages[:i], Message(message.role, mark), *messages[i + 1 :]])
        before, _, behind = marked.partition(mark)
        start, stop = len(before), len(rendered) - len(behind)
        if not (place <= start <= stop and rendered[:start] == before and rendered[stop:] == behind):
            raise PromptError(f"the chat template moves the words of a {message.role} message; spans can't be found")
        pieces += [Piece("template", rendered[place:start]), Piece(message.role, rendered[start:stop])]
        place = stop
    return [*pieces, Piece("template", rendered[place:])]


def _owners(pieces: Sequence[Piece], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The piece that each token belongs to. A token across a boundary belongs to the message, not to the template."""
    ends = list(accumulate(len(p.text) for p in pieces))
    owners: list[int] = []
    piece = 0
    for start, stop in offsets:
        while piece < len(pieces) - 1 and start >= ends[piece]:
            piece += 1
        crosses = stop > ends[piece] and piece < len(pieces) - 1 and pieces[piece].role == "template"
        owners.append(piece + crosses)
    return owners
