"""Word lists: what is found, what is not, what hides a word, and what is left after masking."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.errors import DataError, SettingsError
from condition.moderation.words import WordList

LIST = WordList(["darn", "heck of a", "café", "東京", "-ish", "c++", "Straße", "हिन्दी"], category="mild")

HELD = {
    "What a DARN mess": "What a **** mess",
    "ＤＡＲＮ": "****",
    "d\u200ba\u00adrn it": "****** it",
    "d\u0336a\u0336r\u0336n\u0336": "*" * 8,
    "dar\x00n": "*****",
    "_darn_, really": "_****_, really",
    "我很darn": "我很****",
    "heck\n of_a day": "****\n **** day",
    "cafe\u0301 x": "***** x",
    "CAFÉ": "****",
    "私は東京都": "私は**都",
    "great-ish": "great****",
    "I like c++ a lot": "I like *** a lot",
    "STRASSE": "*******",
    "यह हिन्दी है": "यह ****** है",
    "\ud800 darn": "\ud800 ****",
}


@pytest.mark.parametrize(("text", "masked"), HELD.items(), ids=ascii)
def test_words_are_found_and_masked(text: str, masked: str) -> None:
    verdict = LIST(text)
    assert not verdict.allowed
    assert verdict.categories == ("mild",)
    assert verdict.reason
    assert LIST.mask(text) == masked
    assert LIST(LIST.mask(text)).allowed


@pytest.mark.parametrize("text", ["", "darning", "a heck of", "cafe", "darn\u0301", "c", "publish", "d a r n", "\x00"])
def test_other_words_pass_and_stay_as_they_are(text: str) -> None:
    assert LIST(text).allowed
    assert LIST.mask(text) == text


@given(st.text(), st.text())
def test_nothing_put_around_a_word_hides_it_and_nothing_else_is_changed(before: str, behind: str) -> None:
    text = f"{before} ¡darn! {behind}"
    assert not LIST(text).allowed
    masked = LIST.mask(text)
    assert LIST(masked).allowed
    assert len(masked) == len(text)
    assert "¡****!" in masked


@given(st.text())
def test_a_text_without_the_words_is_unchanged(text: str) -> None:
    assert LIST(text).allowed == (LIST.mask(text) == text)


def test_a_character_of_several_parts_is_one() -> None:
    assert not WordList([unicodedata.normalize("NFD", "한국")])("한국").allowed
    assert not WordList(["한국"])(unicodedata.normalize("NFD", "한국")).allowed
    assert WordList(["हिन्द"])("हिन्दी").allowed  # the vowel sign is a mark, not a letter


def test_a_mark_behind_a_sign_makes_another_sign_and_a_letter_does_not() -> None:
    signs = WordList(["c++"])
    assert not signs("c++ and c++11").allowed
    assert signs("c++\u0301").allowed


def test_the_longest_phrase_is_masked() -> None:
    assert WordList(["bad", "bad word", "badly"]).mask("bad word badly bad") == "*** **** ***** ***"


def test_many_agree_with_one() -> None:
    assert LIST.many(list(HELD)) == [LIST(text) for text in HELD]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], r"WordList\.words = \[\]: no words to look for: give at least one"),
        ("darn", "give a list of words, not one text"),
        (["ok", "\u200b"], "can be seen in a text"),
        ([""], "can be seen in a text"),
        ([5], "valid string"),
    ],
)
def test_a_list_that_finds_nothing_is_a_settings_error(words: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        WordList(words)


@pytest.mark.parametrize("text", [None, 5, b"darn"])
def test_what_is_no_text_is_a_data_error(text: str) -> None:
    with pytest.raises(DataError, match="not"):
        LIST(text)


def test_ten_thousand_words_in_two_megabytes() -> None:
    words = WordList([f"word{number}x" for number in range(10_000)])
    text = "the quick word77 brown fox jumps over " * 50_000
    assert words(text).allowed
    assert words(text + "word9999x").reason == "holds 'word9999x'"
