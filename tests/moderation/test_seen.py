"""A text as one sees it, and where each of its characters comes from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from condition.moderation.seen import goes_on, places, runs, seen


@given(st.text(alphabet=st.characters(), max_size=30))
def test_each_seen_character_has_a_place(text: str) -> None:
    found = places(text)
    assert len(found) == len(seen(text))
    assert all(0 <= start < stop <= len(text) for start, stop in found)
    assert found == sorted(found)


@given(st.text(max_size=30))
def test_seeing_twice_changes_nothing(text: str) -> None:
    assert seen(seen(text)) == seen(text)


def test_words_end_where_a_script_without_spaces_begins() -> None:
    assert runs("").findall("one 2") == ["one", "2"]
    assert runs("我").findall("我很darn cafe\u0301") == ["darn", "cafe\u0301"]
    assert [goes_on(letter) for letter in "a1\u0301東 !"] == [True, True, True, False, False, False]
