from __future__ import annotations

from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate

from condition.control.codes import ControlCodes
from condition.errors import ControlError, SettingsError
from condition.prompts.saved import prompt_from_json, prompt_to_json
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.types import Message, Messages

CODES = ControlCodes(genre="news", audience="children", length=80, extras={"tone": '{dry} {{% raw %}} "it\'s" 中'})
LINES = 'Genre: news\nAudience: children\nLength: about 80 words\nTone: {dry} {{% raw %}} "it\'s" 中'


def test_codes_are_lines_and_variables() -> None:
    assert str(CODES) == LINES
    assert CODES.values["length"] == "about 80 words"
    assert "formality" not in CODES.values
    prompt = ChatPrompt([("system", "A {genre} for {audience}."), ("user", "{topic}")])
    [system, _] = prompt.format(topic="bridges", **CODES.values)
    assert system.content == "A news for children."


def test_codes_are_values() -> None:
    same = ControlCodes("news", extras={"b": "2", "a": "1"})
    assert same == ControlCodes(genre="news", extras=(("a", "1"), ("b", "2")))
    assert hash(same) == hash(ControlCodes.model_validate(same.model_dump()))
    assert same != ControlCodes("news")


@pytest.mark.parametrize("template_format", ["f-string", "jinja2"])
def test_codes_go_below_the_system_message(template_format: Any) -> None:
    variable = "{topic}" if template_format == "f-string" else "{{ topic }}"
    prompt = ChatPrompt([("system", "Be brief."), ("user", variable)], template_format=template_format)
    expected = (Message("system", f"Be brief.\n\n{LINES}"), Message("user", "bridges"))
    coded = CODES(prompt)
    assert coded.format(topic="bridges") == expected
    assert prompt_from_json(prompt_to_json(coded)).format(topic="bridges") == expected
    literal = ChatPrompt([Message("system", "Be brief."), ("user", variable)], template_format=template_format)
    assert CODES(literal).format(topic="bridges") == expected


@pytest.mark.parametrize("template_format", ["f-string", "jinja2"])
def test_a_text_prompt_begins_with_the_codes(template_format: Any) -> None:
    variable = "{topic}" if template_format == "f-string" else "{{ topic }}"
    coded = CODES(TextPrompt(f"On {variable}:", template_format=template_format))
    assert isinstance(coded, TextPrompt)
    assert coded.format(topic="bridges") == (Message("text", f"{LINES}\n\nOn bridges:"),)
    assert CODES.before((Message("text", "On bridges:"),)) == coded.format(topic="bridges")


def test_any_prompt_takes_codes() -> None:
    class Own:
        variables = frozenset({"topic"})
        parse = staticmethod(str.upper)

        def format(self, **inputs: object) -> Messages:
            return (Message("user", f"On {inputs['topic']}"),)

    expected = (Message("system", LINES), Message("user", "On bridges"))
    for prompt in (Own(), "On {topic}", [("user", "On {topic}")], ChatPromptTemplate([("human", "On {topic}")])):
        coded = CODES(prompt)
        assert coded.variables == {"topic"}
        assert coded.format(topic="bridges") == expected
    parse: Any = vars(CODES(Own()))["parse"]
    assert parse("a") == "A"


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ({}, "no code is given"),
        ({"genre": " "}, "genre"),
        ({"genre": "news\nFormality: none"}, "one line"),
        ({"length": 0}, "length"),
        *(({"extras": {name: "news"}}, "field of its own") for name in ("genre", "audience", "length", "formality")),
    ],
)
def test_what_would_not_read_as_codes_is_refused(codes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ControlCodes(**codes)


def test_codes_are_no_limit() -> None:
    with pytest.raises(ControlError, match="words of the prompt"):
        CODES & CODES
