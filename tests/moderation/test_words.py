from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.errors import DataError, SettingsError
from condition.moderation.words import WordList, _with_places
from condition.types import Verdict

INSULTS = WordList(["idiot*", "shut up", "ass"], category="insults")


@pytest.mark.parametrize(
    "text",
    [
        "You idiot!",
        "IDIOTS",
        "shut up",
        "Shut \n\t UP.",
        "shut-up",
        "shut_up",
        "an _ass_",
        "i\u200bd\u200bi\u200bo\u200bt",  # zero-width spaces
        "id\u00adiot",  # soft hyphen
        "id\x00iot",
        "id\u202eiot",  # a right-to-left override
        "ｉｄｉｏｔ",  # fullwidth
        "𝓲𝓭𝓲𝓸𝓽",
        "ASS",
        "as\ufe0fs",
    ],
)
def test_is_found(text: str) -> None:
    verdict = INSULTS(text)
    assert not verdict.allowed
    assert verdict.categories == ("insults",)
    assert verdict.reason is not None
    assert verdict.reason.startswith("it says '")


@pytest.mark.parametrize(
    "text", ["", "a class of grass", "shutup", "shut it up", "assess", "idio t", "as\u0301s", "\ud800"]
)
def test_passes(text: str) -> None:
    assert INSULTS(text) == Verdict(True)


def test_accents_are_compared_composed() -> None:
    cafe = WordList(["café"])
    assert not cafe("CAFE\u0301").allowed
    assert cafe("cafe").allowed
    assert not WordList([unicodedata.normalize("NFD", "한국")])("한국").allowed
    assert not WordList(["한국"])(unicodedata.normalize("NFD", "한국")).allowed


def test_a_mark_belongs_to_the_word() -> None:
    assert WordList(["हिन्द"])("हिन्दी").allowed  # the vowel sign is a mark, not a letter
    assert not WordList(["हिन्दी"])("यह हिन्दी है").allowed


def test_scripts_without_spaces_are_searched_everywhere() -> None:
    assert not WordList(["傻瓜"])("你是傻瓜吗").allowed


def test_case_folds_beyond_lower() -> None:
    assert not WordList(["straße"])("STRASSE").allowed


def test_signs_at_the_edge_need_no_boundary() -> None:
    assert WordList(["c++"]).redact("We like c++.") == "We like ***."


def test_redacting_masks_the_words_and_nothing_else() -> None:
    assert INSULTS.redact("Such idiots; shut  UP, class!") == "Such ******; ********, class!"
    assert INSULTS.redact("i\u200bdiot é", "#") == "###### é"
    assert INSULTS.redact("nothing") == "nothing"


def test_the_longest_word_is_taken() -> None:
    assert WordList(["bad", "bad word", "badly"]).redact("bad word badly bad") == "******** ***** ***"


def test_the_reason_names_three_words_at_most() -> None:
    verdict = WordList(["a", "b", "c", "d"])("a b c d a")
    assert verdict.reason == "it says 'a', 'b', 'c' and 1 more"


@pytest.mark.parametrize("words", ["idiot", [], ["fine", " "], ["*"], ["\u200b"], ["-"], [None]])
def test_words_that_make_no_sense_are_refused(words: list[str]) -> None:
    with pytest.raises(SettingsError, match="WordList"):
        WordList(words)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="a string, not NoneType"):
        INSULTS(None)  # type: ignore[arg-type]


@given(st.text(), st.text())
def test_a_word_between_spaces_is_always_found(before: str, after: str) -> None:
    text = f"{before} idiot {after}"
    assert not INSULTS(text).allowed
    redacted = INSULTS.redact(text)
    assert len(redacted) == len(text)
    assert INSULTS(redacted).allowed


@given(st.text(st.sampled_from("aé \u0301\u200b\x00x한\u1161\ud800-*ﬁ")))
def test_places_cover_the_text_in_order(text: str) -> None:
    normal, starts, stops = _with_places(text)
    assert len(normal) == len(starts) == len(stops)
    assert starts == sorted(starts)
    assert all(0 <= start < stop <= len(text) for start, stop in zip(starts, stops, strict=True))


def test_a_megabyte_and_ten_thousand_words_take_a_second_or_two() -> None:
    words = WordList([f"word{i}x" for i in range(10_000)])
    text = "a plain word7 text of é " * 43_000
    began = time.perf_counter()
    assert words(text).allowed
    assert not words(text + "word77x").allowed
    assert time.perf_counter() - began < 30
