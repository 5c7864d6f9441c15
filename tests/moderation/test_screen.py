from __future__ import annotations

from collections.abc import Iterator

import pytest

from condition.errors import DataError, Interrupted, SettingsError
from condition.moderation.screen import ModerationFilter, screen
from condition.protocols import Filter
from condition.types import Example, Ranking, Verdict


def bad(text: str, /) -> Verdict:
    if "boom" in text:
        raise RuntimeError(text)
    return Verdict("bad" not in text, ("rude",) if "bad" in text else ())


def never_x(text: str, /) -> Verdict:
    return Verdict("x" not in text, ("x",) if "x" in text else ())


ROWS = [
    Example({"q": "fine"}, "fine"),
    Example({"q": "bad"}, "fine"),
    Example({"q": "fine"}, "bad"),
    Example({"q": "fine"}, "fine", rationale="bad"),
    Example({"q": ["fine", {"deep": "bad"}], "n": 5}, "fine"),
    Example({"q": "boom"}, "fine"),
    Example({"q": None}, ""),
]


def test_one_refused_text_refuses_its_row_and_no_other() -> None:
    kept, refused = found = screen(ROWS, bad)
    assert kept == [ROWS[0], ROWS[6]]
    assert [one.place for one in refused] == [1, 2, 3, 4, 5]
    assert refused[0].row is ROWS[1]
    assert found.counts == {"rude": 4, "unchecked": 1}
    assert str(found) == "kept 2 of 7 rows; refused: rude 4, unchecked 1"


def test_several_moderators_and_other_rows() -> None:
    rows = [Ranking({"q": "a"}, ("b", "bad")), {"text": "x"}, "fine"]
    kept, refused = screen(rows, [bad, never_x])
    assert kept == ["fine"]
    assert [one.verdict.categories for one in refused] == [("rude",), ("x",)]


def test_many_rows_keep_their_places_and_are_asked_in_parts() -> None:
    class Counting:
        calls = 0

        def __call__(self, text: str, /) -> Verdict:
            raise AssertionError

        def many(self, texts: list[str]) -> list[Verdict]:
            self.calls += 1
            return [Verdict(not text.endswith("7")) for text in texts]

    counting = Counting()
    kept, refused = screen((str(i) for i in range(2500)), counting)
    assert counting.calls == 3
    assert len(kept) == 2250
    assert [one.place for one in refused[-2:]] == [2487, 2497]
    assert screen([], counting) == ([], [])


def test_a_bad_row_is_reported_and_costs_no_other() -> None:
    rows = ["a", 5, {"q": None}, "bad", "b", True]
    kept, refused = found = screen(rows, bad)
    assert kept == ["a", "b"]
    assert [(one.place, one.verdict.categories) for one in refused] == [
        (1, ("unchecked",)),
        (2, ("unchecked",)),
        (3, ("rude",)),
        (5, ("unchecked",)),
    ]
    assert refused[0].verdict.reason == "5 holds no text: give Examples, Rankings, dicts or strings"
    assert str(found) == "kept 2 of 6 rows; refused: unchecked 3, rude 1"


def test_a_row_that_can_not_be_read_costs_no_work() -> None:
    asked: list[str] = []

    def note(text: str, /) -> Verdict:
        asked.append(text)
        return Verdict(True)

    def rows() -> Iterator[str]:
        yield from ("a", "b")
        raise DataError("train.jsonl, line 3: no JSON")

    with pytest.raises(DataError, match="line 3"):
        screen(rows(), note)
    assert not asked


def test_ctrl_c_keeps_the_verdicts() -> None:
    def stops(text: str, /) -> Verdict:
        if text == "2100":
            raise KeyboardInterrupt
        return Verdict(not text.endswith("7"), ("seven",) if text.endswith("7") else ())

    with pytest.raises(Interrupted, match="stopped after 2000 of 2500 rows") as caught:
        screen([str(i) for i in range(2500)], stops)
    assert list(caught.value.finished) == list(range(2000))
    assert [place for place, verdict in caught.value.finished.items() if not verdict.allowed][:2] == [7, 17]


def test_what_is_no_rows_and_no_moderator_is_refused() -> None:
    for one in ("a text", {"q": "a row"}):
        with pytest.raises(DataError, match="takes rows, not one"):
            screen(one, bad)
    with pytest.raises(DataError, match="give a moderator"):
        screen(["a"], [])
    with pytest.raises(SettingsError, match="no moderator"):
        screen(["a"], 5)  # type: ignore[arg-type]


def test_a_filter_says_the_same() -> None:
    clean = ModerationFilter(bad)
    assert isinstance(clean, Filter)
    assert not clean(None)  # type: ignore[arg-type]
    assert [row for row in ROWS if clean(row)] == screen(ROWS, bad).kept
