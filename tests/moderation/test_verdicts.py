"""Asking moderators about many texts: batches, order, and that whatever goes wrong is a refusal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from condition.errors import SettingsError
from condition.moderation.verdicts import UNCHECKED, moderators_of, verdicts
from condition.moderation.words import WordList
from condition.types import Verdict

WORDS = WordList(["darn"])


def long_is_bad(text: str, /) -> Verdict:
    if text == "boom":
        raise RuntimeError("out of order")
    return Verdict(len(text) < 9, ("long",), None)


class Batched:
    """Refuses what it is told to; `answers` stand in for what `many` gives."""

    def __init__(self, answers: Any = None) -> None:
        self.answers = answers
        self.calls: list[list[str]] = []

    def __call__(self, text: str, /) -> Verdict:
        return Verdict(text != "bad", ("batched",))

    def many(self, texts: Sequence[str]) -> list[Verdict]:
        self.calls.append(list(texts))
        if isinstance(self.answers, Exception):
            raise self.answers
        return [self(text) for text in texts] if self.answers is None else list(self.answers)


def test_what_is_no_text_is_refused_and_the_others_are_asked() -> None:
    found = verdicts(WORDS, ["fine", None, "darn", b"fine", 5])
    assert [verdict.allowed for verdict in found] == [True, False, False, False, False]
    assert found[1] == Verdict(False, (UNCHECKED,), "NoneType is no text")


def test_the_first_moderator_that_refuses_has_the_word_and_later_ones_are_not_asked() -> None:
    batched = Batched()
    found = verdicts([WORDS, batched, long_is_bad], ["darn", "bad", "fine", "far too long", "fine"])
    assert [verdict.categories for verdict in found] == [("words",), ("batched",), ("long",), ("long",), ("long",)]
    assert [verdict.allowed for verdict in found] == [False, False, True, False, True]
    assert batched.calls == [["bad", "fine", "far too long"]]  # one call, equal texts once


def test_a_moderator_that_raises_refuses_that_text_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "condition.moderation"):
        one, other = verdicts(long_is_bad, ["boom", "fine"])
    assert one == Verdict(False, (UNCHECKED,), "long_is_bad failed: RuntimeError: out of order")
    assert other.allowed
    assert "out of order" in caplog.text


@pytest.mark.parametrize("answers", [RuntimeError("too many"), [], [True, True], [Verdict(True)] * 3])
def test_a_batch_that_fails_is_asked_one_by_one(answers: Any) -> None:
    batched = Batched(answers)
    assert [verdict.allowed for verdict in verdicts(batched, ["bad", "fine"])] == [False, True]
    assert len(batched.calls) == 1


def test_an_answer_that_is_no_verdict_is_a_refusal() -> None:
    def says_yes(text: str, /) -> Any:
        return True

    assert verdicts(says_yes, ["fine"]) == [Verdict(False, (UNCHECKED,), "says_yes gave bool, not a Verdict")]


def test_ctrl_c_is_no_refusal() -> None:
    def stopped(text: str, /) -> Verdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdicts(stopped, ["fine"])


def test_nothing_is_asked_about_nothing() -> None:
    assert verdicts(WORDS, []) == []
    assert moderators_of(None) == ()
    assert moderators_of([WORDS, long_is_bad]) == (WORDS, long_is_bad)


@pytest.mark.parametrize("wrong", ["darn", 5, WordList, [WORDS, "darn"]])
def test_what_is_no_moderator_is_a_settings_error(wrong: Any) -> None:
    with pytest.raises(SettingsError, match="no moderator"):
        verdicts(wrong, ["fine"])
