"""Where values stand in a text, whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.prompts.placed import place, text_message
from condition.prompts.template import ChatPrompt, TemplateFormat, TextPrompt
from condition.types import Message


def shown(message: Message) -> list[str]:
    return [message.content[start:stop] for start, stop in message.values]


@pytest.mark.parametrize(
    ("kind", "template", "inputs", "values"),
    [
        ("f-string", "a {x} b {y}", {"x": "1", "y": 2}, ["1", "2"]),
        ("f-string", "{x!r:>5}{{x}}", {"x": "a"}, ["  'a'"]),
        ("f-string", "{x:>4}", {"x": 7}, ["   7"]),
        ("f-string", "none", {}, []),
        ("jinja2", "a {{ x }} b {{ y | upper }}", {"x": "1", "y": "z"}, ["1", "Z"]),
        ("jinja2", "{% for v in x %}[{{ v }}]{% endfor %}", {"x": ["a", "b"]}, ["a", "b"]),
        ("jinja2", "{% set y %}<{{ x }}>{% endset %}{{ y }}", {"x": "a"}, ["<a>"]),
        ("jinja2", "{% if x %}yes{% endif %}", {"x": 1}, []),
        ("jinja2", "{{ x }}", {"x": "\ufdd0\ufdd1"}, ["\ufdd0\ufdd1"]),
    ],
)
def test_by_hand(kind: TemplateFormat, template: str, inputs: dict[str, Any], values: list[str]) -> None:
    (message,) = TextPrompt(template, template_format=kind).format(**inputs)
    assert shown(message) == values
    (turn,) = ChatPrompt([("text", template)], template_format=kind).format(**inputs)
    assert shown(turn) == values
    assert ChatPrompt([("user", template)], template_format=kind).format(**inputs)[0].values == ()


@pytest.mark.parametrize(("kind", "template"), [("f-string", "<{x}|{y}>"), ("jinja2", "<{{ x }}|{{ y }}>")])
@given(x=st.text(), y=st.text(alphabet="{}%\ufdd0\ufdd1\ufdd2 "))
def test_values_of_every_kind(kind: TemplateFormat, template: str, x: str, y: str) -> None:
    (message,) = TextPrompt(template, template_format=kind).format(x=x, y=y)
    assert shown(message) == [x, y]


def test_what_is_not_written_the_same_twice_is_a_value_as_a_whole() -> None:
    (message,) = TextPrompt("{% for v in x %}{{ v }}{% endfor %}!", template_format="jinja2").format(x=iter("ab"))
    assert shown(message) == ["ab!"]
    assert place("{x}", "f-string", {}, "abc") == ((0, 3),)


def test_joined_they_move_along() -> None:
    parts = [Message("text", "ab", ((1, 2),)), Message("text", "c"), Message("text", "de", ((0, 2),))]
    joined = text_message(parts, " + ")
    assert joined.content == "ab + c + de"
    assert shown(joined) == ["b", "de"]


def test_a_message_is_equal_to_one_that_says_the_same() -> None:
    filled, written = Message("text", "ab", ((0, 1),)), Message("text", "ab")
    assert filled == written
    assert hash(filled) == hash(written)
    assert filled != Message("user", "ab")
    assert filled != "ab"
    assert repr(filled) == repr(written)
    assert filled.model_dump() == {"role": "text", "content": "ab"}
