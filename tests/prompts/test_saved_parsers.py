"""Parsers by name: what is saved reads as what was given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from condition.errors import PromptError
from condition.prompts.parse import (
    Parser,
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
from condition.prompts.saved_parsers import parser_from_json, parser_to_json

SAID = 'Think of {"a": 1}.\n2. It is 7/10, positive.\n#### (B) 3'


@pytest.mark.parametrize(
    "parse", [final_answer, before_answer, last_number, mark, listed, json_value, str.strip, int, float]
)
def test_a_plain_one_is_itself(parse: Any) -> None:
    assert parser_from_json(json.loads(json.dumps(parser_to_json(parse)))) is parse


@pytest.mark.parametrize(
    "parse",
    [
        letter("AB"),
        label(["negative", "positive"]),
        after("####"),
        after("#### (B)", last_number),
        first_of(after("Answer:", last_number), letter("C"), after("####", first_of(json_value, letter("XB")))),
    ],
    ids=repr,
)
def test_one_made_from_arguments_reads_the_same(parse: Any) -> None:
    again = parser_from_json(json.loads(json.dumps(parser_to_json(parse))))
    assert isinstance(again, Parser)
    assert repr(again) == repr(parse)
    assert again(SAID) == parse(SAID)


def test_it_says_how_it_was_made() -> None:
    assert (
        repr(after("####", first_of(last_number, letter("AB")))) == "after('####', first_of(last_number, letter('AB')))"
    )


class Own:
    def __call__(self, text: str) -> str:
        return text


@pytest.mark.parametrize(("parse", "name"), [(Own(), "Own"), (str.upper, "str.upper"), (first_of(mark, Own()), "Own")])
def test_of_code_the_name_is_kept(parse: Any, name: str) -> None:
    assert parser_to_json(parse) == {"code": name}
    assert parser_from_json({"code": name}) is None


@pytest.mark.parametrize(
    "saved",
    [
        {"name": "exec"},
        {"name": "letter"},
        {"name": "last_number", "arguments": []},
        {"name": "first_of", "arguments": [{"name": "mark"}, {"code": "Own"}]},
    ],
)
def test_what_was_edited_is_refused(saved: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match="a saved parser can't be read"):
        parser_from_json(saved)
