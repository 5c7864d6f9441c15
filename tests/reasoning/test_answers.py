from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from condition.errors import ModelError, SettingsError
from condition.prompts.parse import final_answer, last_number
from condition.prompts.template import ChatPrompt
from condition.reasoning.answers import number_in, parsed, parser_of, texts_in, vote_of
from condition.types import Answer


def test_what_can_not_be_parsed_says_why() -> None:
    with pytest.raises(ModelError, match=r"no answer in 'some words': it has no number; .* give another parse="):
        parsed(last_number, "some words")
    with pytest.raises(ModelError, match="found nothing"):
        parsed(lambda text: None, "x")
    with pytest.raises(ModelError, match="KeyError: 'x'"):
        parsed(lambda text: {}[text], "x")


@pytest.mark.parametrize("value", [0, "", False, []])
def test_what_counts_as_nothing_elsewhere_is_an_answer(value: Any) -> None:
    assert parsed(lambda text: value, "x") == value


def test_an_error_of_ours_stays_what_it_is() -> None:
    def refuse(text: str) -> str:
        raise SettingsError("no such scale")

    with pytest.raises(SettingsError, match=r"^no such scale$"):
        parsed(refuse, "x")


def test_the_prompts_own_parser_comes_before_ours() -> None:
    prompt = ChatPrompt([("user", "{x}")], parse=str.upper)
    assert parser_of(prompt, None) is str.upper
    assert parser_of(prompt, last_number) is last_number
    assert parser_of(ChatPrompt([("user", "{x}")]), None) is final_answer


def test_votes_are_values_or_plain_texts() -> None:
    assert vote_of(Answer(" Paris ")) == vote_of(Answer("paris"))
    assert vote_of(Answer("18.0", parsed=18.0)) == vote_of(Answer("18", parsed=18))
    assert vote_of(Answer("[1]", parsed=[1])) == vote_of(Answer("x", parsed=[1]))


@pytest.mark.parametrize("value", [float("nan"), (1, [2]), np.array([1, 2])])
def test_values_that_can_not_be_counted_vote_as_texts(value: Any) -> None:
    first, second = Answer("x", parsed=value), Answer("y", parsed=value)
    assert vote_of(first) == vote_of(second) == str(value)


def test_json_votes_by_what_it_says() -> None:
    first = {"name": "Ada", "born": [1815, {"month": 12, "day": 10}]}
    second = {"born": [1815.0, {"day": 10, "month": 12}], "name": "ada "}
    assert vote_of(Answer("x", parsed=first)) == vote_of(Answer("y", parsed=second))
    assert vote_of(Answer("x", parsed=first)) != vote_of(Answer("x", parsed={**first, "born": []}))
    assert vote_of(Answer("x", parsed=[1, 2])) != vote_of(Answer("x", parsed=[2, 1]))
    odd = {"a": float("nan"), "b": np.array([1])}
    assert vote_of(Answer("x", parsed=odd)) == vote_of(Answer("y", parsed=dict(odd)))


def test_several_texts_are_not_the_letters_of_one() -> None:
    assert texts_in(lambda text: (part for part in text.split(",")), "a, b,,2") == ["a", "b", "2"]
    assert texts_in(lambda text: [None, 3], "x") == ["3"]
    for one in (str.strip, len):
        with pytest.raises(ModelError, match="let it give a list"):
            texts_in(one, "abc")


def test_a_mark_is_a_number() -> None:
    assert number_in(last_number, "so 7") == 7
    assert number_in(lambda text: text, "7") == 7
    for text in ("nan", "good"):
        with pytest.raises(ModelError, match="no answer in"):
            number_in(lambda text: text, text)
