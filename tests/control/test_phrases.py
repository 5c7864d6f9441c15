"""The automaton against a reading of the whole decoded text."""

from __future__ import annotations

import codecs
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.control.phrases import Phrases

PHRASES = ["ass", "New  York", "C++", "straße", "İl", "a", "!!", "a b", "中文", "_x", "naïve", "हिन"]
PARTS = [
    *"abcsxyor +!_-\n\t",
    "ass",
    "ASS",
    "new",
    "YORK",
    "straße",
    "STRASSE",
    "中",
    "文",
    "é",
    "C++",
    "İL",
    "हिन",
    "्",
    "\u2003",
]
CUTS = [b"\xe4", b"\xb8", b"\xad", b"\xf0\x9f", b"\x8c\x89", b"\xff", b"\xc3", b"\xa9", b"\xed", b"\xed\xa7"]
"""Halves of characters."""


def standing(text: str) -> set[int]:
    """Phrases of a whole text, by comparing at every place."""
    plain = " ".join(text.casefold().split()) + (" " if text[-1:].isspace() else "")
    found = set()
    for number, phrase in enumerate(PHRASES):
        wanted = " ".join(phrase.casefold().split())
        for place in range(len(plain)):
            before, behind = plain[:place], plain[place + len(wanted) :]
            if plain[place:].startswith(wanted) and not (
                (_letter(wanted[0]) and _letter(before[-1:])) or (_letter(wanted[-1]) and _letter(behind[:1]))
            ):
                found.add(number)
    return found


def _letter(character: str) -> bool:
    return bool(character) and (
        character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")
    )


@given(st.lists(st.one_of(st.sampled_from([p.encode() for p in PARTS]), st.sampled_from(CUTS)), max_size=9), st.data())
def test_it_finds_what_stands_in_the_decoded_text(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    automaton, state = Phrases(PHRASES), 0
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        state = automaton.after(state, text[start:stop])
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoded = decoder.decode(text)
        if decoder.getstate()[0][:2] >= b"\xed\xa0" and decoder.getstate()[0][:1] == b"\xed":
            decoder.decode(b"\x80")  # raises: nothing completes half of a surrogate pair
    except UnicodeDecodeError:
        assert automaton.broken(state)
        assert not automaton.whole(state)
        return
    assert not automaton.broken(state)
    assert automaton.whole(state) == (not decoder.getstate()[0])
    assert automaton.standing(state) == standing(decoded)
    assert automaton.found(state) <= automaton.standing(state)


@pytest.mark.parametrize(
    ("phrase", "text", "stands"),
    [
        ("new york", "New \n\t York!", True),
        ("new york", "newyork", False),
        ("of  course", " of course", True),
        ("straße", "STRASSE", True),
        ("strasse", "Straße", True),
        ("हिन", "हिन", True),
        ("हिन", "हिन्", False),  # a mark goes on
        ("a", "a\u0301", False),
        ("c++", "C++ is", True),
        ("c++", "c+", False),
        ("!!", "a!!", True),
    ],
)
def test_by_hand(phrase: str, text: str, stands: bool) -> None:
    automaton = Phrases([phrase])
    assert bool(automaton.standing(automaton.after(0, text.encode()))) is stands


def test_a_word_is_a_whole_one() -> None:
    automaton = Phrases(["ass"])
    for text, found in {"An ass!": 1, "ASS": 1, "class": 0, "assess": 0, "ass_": 0, "(ass)": 1, "ass's": 1}.items():
        assert len(automaton.standing(automaton.after(0, text.encode()))) == found
