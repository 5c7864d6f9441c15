from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.prompts.parse import (
    after,
    before_answer,
    final_answer,
    first_of,
    json_value,
    label,
    last_number,
    letter,
    listed,
    mark,
)
from condition.prompts.template import ChatPrompt


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7, so 7 apples.", 7),
        ("It costs $1,250.50.", 1250.5),
        ("-3", -3),
        ("−2.5 degrees", -2.5),
        ("from 10-12", 12),
        ("3 - 5 = -2", -2),
        ("about .5", 0.5),
        ("7, or 8.", 8),
        ("1,2,3", 3),
        (".5", 0.5),
        ("6.02e23 of them", 6.02e23),
        ("Answer: 18\n", 18),
        ("12,345,678", 12345678),
    ],
)
def test_the_last_number(text: str, number: float) -> None:
    assert last_number(text) == pytest.approx(number)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_number_that_python_writes_is_read(number: float) -> None:
    assert last_number(f"So it is {number}.") == pytest.approx(float(number))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "B"),
        ("B. Paris", "B"),
        ("(C) because A is wrong", "C"),
        ("The answer is (B).", "B"),
        ("The answer is **D**", "D"),
        ("Answer: C", "C"),
        ("A dog is an animal, so the answer is D", "D"),
        ("Neither (A) nor (B): I choose [C]", "C"),
        ("I thought about it.\n\nA", "A"),
        ("answer: option A.", "A"),
        ("The answer is B because it fits.", "B"),
        ("The correct answer is D, as I said", "D"),
        ("The answer is A because it fits.", "A"),
    ],
)
def test_the_letter_of_a_choice(text: str, choice: str) -> None:
    assert letter()(text) == choice


@pytest.mark.parametrize(
    "text", ["", "A dog is an animal", "I don't know", "E", "the answer is a dog", "The answer is A dog"]
)
def test_no_letter_is_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="none of A, B, C, D"):
        letter()(text)


def test_other_letters() -> None:
    assert letter("VWXYZ")("So (Z).") == "Z"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": [1, {"b": "}"}]}\n```\nDone.', {"a": [1, {"b": "}"}]}),
        ("the set {x} is [1, 2]", [1, 2]),
        ('{"a": 1} {"b": 2}', {"a": 1}),
    ],
)
def test_json_among_words(text: str, value: Any) -> None:
    assert json_value(text) == value


@pytest.mark.parametrize("text", ["{q} {{ x }} ", "\\frac{a}{b} [x] ", "{ {\n"])
def test_braces_that_open_no_json_cost_nothing(text: str) -> None:
    began = time.process_time()
    assert json_value(text * 300_000 + '{"a": [ -1, true, null, {}, [ ] ]}') == {"a": [-1, True, None, {}, []]}
    assert time.process_time() - began < 5


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_is_found(value: Any) -> None:
    wrapped = {"value": value}
    assert json_value(f"Here: {json.dumps(wrapped, ensure_ascii=False)} (end)") == wrapped


@pytest.mark.parametrize("text", ["", "{", "{a: 1}", "[" * 100_000])
def test_no_json_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        json_value(text)


def test_what_follows_a_marker() -> None:
    assert after("answer:")("Answer: no. Wait.\nANSWER: Rouen \nbecause") == "Rouen"
    assert after("####", last_number)("2 + 2\n#### 4 apples") == 4
    with pytest.raises(ValueError, match="it has no '####'"):
        after("####")("none")
    with pytest.raises(ValueError, match="nothing follows"):
        after("####")("#### ")
    with pytest.raises(ValueError, match="marker is empty"):
        after("")


def test_the_first_parser_that_finds_something() -> None:
    parse = first_of(after("####", last_number), last_number)
    assert parse("7 #### 4 and 5") == 5
    assert parse("7") == 7
    with pytest.raises(ValueError, match="it has no '####'; it has no number"):
        parse("none")


@pytest.mark.parametrize(
    ("text", "found"), [("Negative.", "negative"), ("not unpositive but negative", "negative"), ("NEUTRAL", "neutral")]
)
def test_a_label_whatever_its_case(text: str, found: str) -> None:
    assert label(["positive", "negative", "neutral"])(text) == found


def test_capitals_of_other_languages() -> None:
    assert label(["positive", "negative"])("POSİTİVE") == "positive"
    assert label(["olumlu", "ilımlı"])("İLIMLI") == "ilımlı"
    assert label(["STRASSE", "straße"])("Straße") == "straße"


def test_the_longest_label_and_none() -> None:
    assert label(["sci", "sci/tech"])("Sci/Tech") == "sci/tech"
    with pytest.raises(ValueError, match="none of sci"):
        label(["sci"])("science")
    with pytest.raises(ValueError, match="give a list"):
        label("sci")


def test_a_prompt_takes_each_as_its_parser() -> None:
    parsers: list[Callable[[str], Any]] = [last_number, letter(), json_value, after("x"), label(["a"])]
    assert all(ChatPrompt([("user", "{q}")], parse=parse).parse is parse for parse in parsers)


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
        ("The answer isn't plain.\nParis", "Paris"),
        ("The answer is:\n\n**7**\n", "7"),
    ],
)
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("text", ["", "  \n ", "The answer is", "..."])
def test_no_final_answer(text: str) -> None:
    with pytest.raises(ValueError, match="says nothing"):
        final_answer(text)


def test_listed() -> None:
    assert listed("1. Add.\n\n2) Halve it\n- 3 apples\n(4) Stop\nStep 5: go\n12 eggs") == [
        "Add.",
        "Halve it",
        "3 apples",
        "Stop",
        "go",
        "12 eggs",
    ]


@pytest.mark.parametrize(
    ("lines", "items"),
    [
        ("Here are the questions:\n1. How many?\n2. Why?", ["How many?", "Why?"]),
        ("- these:\n- a", ["these:", "a"]),
        ("What is this:", ["What is this:"]),
        ("a\nb:\nc", ["a", "b:", "c"]),
    ],
)
def test_a_heading_is_no_item(lines: str, items: list[str]) -> None:
    assert listed(lines) == items


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("8/10", 8),
        ("**8**/10", 8),
        ("I give it 7 out of 10.", 7),
        ("7 of 10", 7),
        ("8 (out of 10)", 8),
        ("8 [out of 10]", 8),
        ("8 (/10)", 8),
        ("9 (of 10)", 9),
        ("[[8]]/10", 8),
        ("(8)/10", 8),
        ("4 stars out of 5.0", 4),
        ("8 points out of a possible 10", 8),
        ("2 out of 3 facts are right, so 6", 6),
        ("On a scale from 1 to 10: 6.5", 6.5),
        ("9 (on a scale of 1-10)", 9),
        ("First 3/10, then 4 / 10", 4),
        ("10", 10),
    ],
)
def test_a_mark_is_not_its_scale(text: str, value: float) -> None:
    assert mark(text) == value


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("3 + 4 = 7. The answer is 7.", "3 + 4 = 7."),
        ("He has 3.5 eggs. So, in all, the answer is 4", "He has 3.5 eggs."),
        ("I add them\nAnswer: 7", "I add them"),
        ("2 + 2\n#### 4", "2 + 2"),
        ("The answer is 7.", ""),
        ("I add.\n7\n", "I add.\n7"),
        ("The answer is 5. No, I was wrong. The answer is 7.", "The answer is 5. No, I was wrong."),
    ],
)
def test_what_stands_before_the_answer(text: str, reasoning: str) -> None:
    assert before_answer(text) == reasoning


@pytest.mark.parametrize("parse", [letter(), json_value, last_number, mark, final_answer, listed, label(["a"])])
@pytest.mark.parametrize("text", ["\n", "[{", "1,", " answer ", "((", "out of ", "中"], ids=repr)
def test_what_goes_on_for_ever_is_read_in_time(parse: Callable[[str], Any], text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ValueError):
        parse(text * 20_000)
    assert time.process_time() - began < 5
