from __future__ import annotations

import pytest

from condition.errors import ModelError
from condition.prompts.template import ChatPrompt
from condition.reasoning.answers import final_answer, listed, number, parsed, parser_of, vote_of
from condition.types import Answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7. The answer is 7.", "7"),
        ("The answer is 5. No: the answer is 7.\nGood luck!", "7"),
        ("Answer: **Paris**", "Paris"),
        ("He eats.\n#### 1,250", "1,250"),
        ("So it is 12.\n\nTwelve eggs", "Twelve eggs"),
        ('the ANSWER IS: "no".', "no"),
        ("The answer is 3.5", "3.5"),
    ],
)
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("text", ["", "  \n ", "The answer is", "..."])
def test_no_final_answer(text: str) -> None:
    with pytest.raises(ValueError, match="says nothing"):
        final_answer(text)


@pytest.mark.parametrize(
    ("text", "value"), [("He pays $1,250.50 in all.", 1250.5), ("3 - 5 = -2", -2), ("about .5", 0.5), ("7, or 8.", 8)]
)
def test_number(text: str, value: float) -> None:
    assert number(text) == value


def test_listed() -> None:
    assert listed("1. Add.\n\n2) Halve it\n- 3 apples\n(4) Stop\nStep 5: go\n12 eggs") == [
        "Add.",
        "Halve it",
        "3 apples",
        "Stop",
        "go",
        "12 eggs",
    ]


def test_what_can_not_be_parsed_says_why() -> None:
    with pytest.raises(ModelError, match=r"no answer in 'some words': it has no number; .* give another parse="):
        parsed(number, "some words")
    with pytest.raises(ModelError, match="found nothing"):
        parsed(lambda text: None, "x")
    with pytest.raises(ModelError, match="KeyError: 'x'"):
        parsed(lambda text: {}[text], "x")


def test_the_prompts_own_parser_comes_before_ours() -> None:
    prompt = ChatPrompt([("user", "{x}")], parse=str.upper)
    assert parser_of(prompt, None) is str.upper
    assert parser_of(prompt, number) is number
    assert parser_of(ChatPrompt([("user", "{x}")]), None) is final_answer


def test_votes_are_values_or_plain_texts() -> None:
    assert vote_of(Answer(" Paris ")) == vote_of(Answer("paris"))
    assert vote_of(Answer("18.0", parsed=18.0)) == vote_of(Answer("18", parsed=18))
    assert vote_of(Answer("[1]", parsed=[1])) == vote_of(Answer("x", parsed=[1]))
