"""Rows that say the same, whatever their case and white space."""

from __future__ import annotations

from pathlib import Path

from condition.data import read
from condition.data.duplicates import Pair, distinct, repeated, shared
from condition.types import Example, Message

ROWS = [
    Example({"context": "Ada wrote.", "question": "Who?"}, "Ada"),
    Example({"context": "Ada wrote.", "question": "What did she do?"}, "write"),
    Example({"question": " WHO? ", "context": "Ada\nwrote."}, "ada "),
    Example({"context": "Ada wrote.", "question": "Who?"}, "nobody"),
]


def test_the_same_words_are_the_same_row() -> None:
    assert repeated(ROWS) == [(0, 2)]
    assert distinct(ROWS) == [ROWS[0], ROWS[1], ROWS[3]]
    assert repeated([Example({"q": "ﬁne"}, "a"), Example({"q": "fine"}, "a")]) == [(0, 1)]
    assert repeated([Example({"q": "a b"}, "c"), Example({"q": "a"}, "b c")]) == []
    assert repeated([Example({"a": "1", "b": "2"}, "x"), Example({"a": "2", "b": "1"}, "x")]) == []


def test_only_what_the_prompt_uses_counts() -> None:
    one, other = Example({"q": "x", "title": "A"}, "a"), Example({"q": "x", "title": "B"}, "a")
    assert repeated([one, other]) == []
    assert repeated([one, other], {"q"}) == [(0, 1)]


def test_rows_of_both_sets() -> None:
    assert shared(ROWS, [ROWS[1], ROWS[0]]) == [Pair(0, 1), Pair(1, 0), Pair(2, 1)]
    assert shared(ROWS, [Example({"context": "Ada wrote.", "question": "When?"}, "1842")]) == []


def test_conversations() -> None:
    said = (Message("user", "Hello"), Message("assistant", "Good day"))
    turned = (Message("user", "Good day"), Message("assistant", "Hello"))
    one, same, other = (
        Example({"history": history}, "x") for history in (said, (Message("user", "hello "), said[1]), turned)
    )
    assert repeated([one, same, other]) == [(0, 1)]


def test_the_real_file(shared_data: Path) -> None:
    """A question is asked twice of one passage in the source; no passage is in both files."""
    train, held = (read(shared_data / "squad_v2" / name) for name in ("train.jsonl.gz", "validation.jsonl"))
    assert len(repeated(train)) == 1
    assert shared(held, train) == []
