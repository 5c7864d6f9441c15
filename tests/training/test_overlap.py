"""Rows that stand twice, and training rows that are validation rows too."""

from __future__ import annotations

import logging

import pytest

from condition.errors import DataError
from condition.training.overlap import without_repeats
from condition.training.rows import Origin, Prepared, Row
from condition.training.settings import Settings


def prepared(words: str, named: bool = True) -> Prepared:
    """A row for each letter; a capital says what the small one says."""
    rows = [Row((ord(letter), 1), 1) for letter in words]
    origins = [Origin(f"row {i} ({letter})", letter.lower()) for i, letter in enumerate(words)]
    return Prepared(rows, 0, 0, origins if named else ())


def letters(rows: Prepared) -> str:
    return "".join(chr(row.ids[0]) for row in rows.rows)


def test_shared_rows_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"training rows row 1 \(b\), row 3 \(C\) are in the validation data.*'drop'"):
        without_repeats(prepared("abdC"), prepared("xBc"), Settings())
    with pytest.raises(DataError, match=r"and 2 more are"):
        without_repeats(prepared("abcde"), prepared("abcde"), Settings())


def test_or_dropped_or_allowed() -> None:
    dropped = without_repeats(prepared("abdC"), prepared("xBc"), Settings(overlap="drop"))
    assert (letters(dropped), dropped.dropped, [o.key for o in dropped.origins]) == ("ad", 2, ["a", "d"])
    assert letters(without_repeats(prepared("ab"), prepared("ab"), Settings(overlap="allow"))) == "ab"
    with pytest.raises(DataError, match="no training rows left"):
        without_repeats(prepared("ab"), prepared("ab"), Settings(overlap="drop"))


def test_repeated_rows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "condition"):
        assert letters(without_repeats(prepared("abAa"), None, Settings())) == "abAa"
    assert "2 training rows say what another one says" in caplog.text
    assert letters(without_repeats(prepared("abAa"), None, Settings(duplicates="drop"))) == "ab"
    with pytest.raises(DataError, match=r"row 2 \(A\), row 3 \(a\) were there before.*duplicates='drop'"):
        without_repeats(prepared("abAa"), None, Settings(duplicates="raise"))
    both = Settings(duplicates="drop", overlap="drop")
    assert letters(without_repeats(prepared("abAac"), prepared("b"), both)) == "ac"


def test_rows_without_a_known_origin_are_compared_as_they_are() -> None:
    with pytest.raises(DataError, match="training row 0 is in"):
        without_repeats(prepared("ab", named=False), prepared("a", named=False), Settings())
    assert letters(without_repeats(prepared("ab", named=False), prepared("A", named=False), Settings())) == "ab"
