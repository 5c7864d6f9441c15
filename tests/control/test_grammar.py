from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Literal

import pytest
from jsonschema import validate
from lark import Lark
from pydantic import BaseModel, Field, ValidationError

from condition.control.grammar import Choice, Grammar, JSONSchema, Regex
from condition.errors import ControlError
from condition.models.local import LocalModel
from condition.protocols import Control
from condition.types import Message, Sampling
from tests.conftest import TinyModel

ASKED = (Message("user", "Who built the bridge?"),)
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "born": {"type": "integer", "minimum": 1700, "maximum": 1999},
        "trades": {"type": "array", "items": {"enum": ["smith", "potter", "baker"]}, "maxItems": 2},
    },
    "required": ["name", "born"],
    "additionalProperties": False,
}
SUM = """start: term (SIGN term)~0..3
term: NUMBER | "(" start ")"
SIGN: "+" | "-"
NUMBER: /[0-9]{1,4}/
"""
PATTERN = r"(19|20)\d{2}-[01][0-9]|(?i:unknown)|[\w.]{2,5}?…|\S\W\s{1,2}\D"
LABELS = ["yes", "yes, please", "no", 'a "quoted" {label}', "c++ (or c#)?", "two\nlines", "naïve 中文 🌉", "/slash\\"]


def _is_json(text: str) -> None:
    validate(json.loads(text), PERSON)


def _is_sum(text: str) -> None:
    Lark(SUM, parser="earley").parse(text)


def _is_label(text: str) -> None:
    assert text in LABELS


HOUSE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "owner": {"$ref": "#/$defs/owner"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"},
        "floors": {"type": "integer", "minimum": 1, "maximum": 12},
        "use": {"anyOf": [{"const": "mill"}, {"type": "null"}]},
    },
    "required": ["owner", "code", "floors", "use"],
    "additionalProperties": False,
    "$defs": {
        "owner": {
            "type": "object",
            "properties": {"trades": {"type": "array", "items": {"enum": ["miller", "baker"]}, "maxItems": 2}},
            "required": ["trades"],
            "additionalProperties": False,
        }
    },
}


def _matches(text: str) -> None:
    newer = any(unicodedata.category(c) == "Cn" for c in text)  # llguidance knows more of Unicode than Python 3.11
    assert newer or re.fullmatch(PATTERN, text)


def _is_house(text: str) -> None:
    validate(json.loads(text), HOUSE)


CONTROLS: list[tuple[Control, Callable[[str], None]]] = [
    (JSONSchema(PERSON), _is_json),
    (JSONSchema(HOUSE), _is_house),
    (Grammar(SUM), _is_sum),
    (Choice(LABELS), _is_label),
    (Regex(PATTERN), _matches),
]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(("control", "check"), CONTROLS, ids=lambda value: type(value).__name__)
def test_a_random_network_says_only_what_fits(
    tiny_model: TinyModel, family: str, control: Control, check: Callable[[str], None]
) -> None:
    """1,000 texts of each control, of two networks, before a reader that is not llguidance."""
    sampling = Sampling(max_tokens=96, temperature=1.0, n=526, seed=0)
    [found] = tiny_model(family).generate([ASKED], sampling, control=control)
    assert {c.finish_reason for c in found} <= {"stop", "length"}
    texts = [c.text for c in found if c.finish_reason == "stop"]
    assert len(texts) >= 500
    for text in texts:
        check(text)
    assert len(set(texts)) > 4


def test_a_dead_end_is_no_end(tiny_model: TinyModel) -> None:
    [[found]] = tiny_model().generate([ASKED], control=Grammar('start: "abc" /[x&&y]/'))
    assert (found.text, found.finish_reason) == ("abc", "control")


def test_a_set_of_labels_has_an_order() -> None:
    assert Choice({"pear", "apple", "fig"}).labels == ("apple", "fig", "pear")


def test_a_label_may_begin_another(tiny_model: TinyModel) -> None:
    labels = ["no", "no way", "no way out", "nobody"]
    sampling = Sampling(temperature=1.0, n=64, seed=0)
    [found] = tiny_model().generate([ASKED], sampling, control=Choice(labels))
    assert {c.text for c in found} == set(labels)
    assert {c.finish_reason for c in found} == {"stop"}


class Person(BaseModel):
    name: str = Field(max_length=6)
    trade: Literal["smith", "baker"] | None
    boat: Boat | None = None


class Boat(BaseModel):
    length: int = Field(ge=2, le=40)


def test_a_pydantic_model_has_its_own_fields_only(tiny_model: TinyModel) -> None:
    sampling = Sampling(max_tokens=80, temperature=1.0, n=64, seed=0)
    [found] = tiny_model().generate([ASKED], sampling, control=JSONSchema(Person))
    texts = [c.text for c in found if c.finish_reason == "stop"]
    assert len(texts) > 48
    for text in texts:
        assert set(json.loads(text)) <= {"name", "trade", "boat"}
        Person.model_validate_json(text)
        assert not re.search(r"\s\s", re.sub(r'"[^"]*"', "text", text))


def test_the_schema_may_say_how_json_is_spaced(tiny_model: TinyModel) -> None:
    schema = {"type": "array", "items": {"const": 1}, "minItems": 3, "maxItems": 3}
    for own, expected in (({}, "[ ?1 ?, ?1 ?, ?1 ?]"), ({"whitespace_flexible": False}, "[1,1,1]")):
        control = JSONSchema({**schema, "x-guidance": own} if own else schema)
        sampling = Sampling(temperature=1.0, n=16, seed=0)
        [found] = tiny_model().generate([ASKED], sampling, control=control)
        assert all(re.fullmatch(expected.replace("[", r"\[").replace("]", r"\]"), c.text) for c in found)


def test_controls_are_values() -> None:
    for make in (
        lambda: JSONSchema(PERSON),
        lambda: JSONSchema(json.dumps(PERSON)),
        lambda: Grammar(SUM),
        lambda: Regex(PATTERN),
        lambda: Choice(LABELS),
        lambda: Choice(["a"]) & Regex("a") & Choice(["a", "b"]),
    ):
        assert make() == make()
        assert hash(make()) == hash(make())
    assert JSONSchema(PERSON) == JSONSchema(json.dumps(PERSON)) == JSONSchema(MappingProxyType(PERSON))
    assert Choice(["a", "b", "a"]) == Choice(("a", "b"))
    assert Choice(["a"]) != Choice(["b"])
    with pytest.raises(ValidationError, match="frozen"):
        Regex("a").pattern = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Grammar("start: ("), r"this grammar can't be used: .*Expected token"),
        (lambda: Grammar("start: who"), "unknown name"),
        (lambda: Grammar(""), "no start rule found"),
        (lambda: Grammar("start: A\nA: /a/ & /b/"), "allows no text at all"),
        (lambda: Grammar('start: a\na: a "x"'), "allows no text at all"),
        (lambda: Regex("(a"), "this regular expression can't be used: .*unclosed group"),
        (lambda: Regex("(?=a)b"), "look-around"),
        (lambda: Regex("[^\\s\\S]"), "allows no text at all"),
        (lambda: Regex("x[a-z&&b]"), "'&&' inside .* means two things: write a backslash"),
        (lambda: Regex("[[:alpha:]]x"), r"'\[' inside"),
        (lambda: Regex("[]a[b]]"), r"'\[' inside"),
        (lambda: Regex(r"[\w--\d]"), "'--' inside"),
        (lambda: Regex("a++a"), r"the possessive '\+\+' in 'a\+\+a'"),
        (lambda: Regex("[ab]{1,3}+"), "the possessive"),
        (lambda: Regex(3), "Regex takes text, not 3"),  # type: ignore[arg-type]
        (lambda: JSONSchema({"type": "nonsense"}), "this JSON schema can't be used: Invalid type: nonsense"),
        (lambda: JSONSchema({"type": "array", "uniqueItems": True}), "Unimplemented keys"),
        (lambda: JSONSchema({"type": "integer", "minimum": 5, "maximum": 3}), "minimum .5. is greater than maximum"),
        (lambda: JSONSchema('{"type": '), "the JSON schema is no JSON"),
        (lambda: JSONSchema("[1]"), "a JSON schema is a dict, its JSON text or a pydantic model, not"),
        (lambda: JSONSchema({"x-guidance": 3}), "JsonCompileOptions"),
        (lambda: JSONSchema({"x-guidance": {"spaces": 3}}), "unknown field .spaces"),
        (lambda: JSONSchema({"const": {1, 2}}), "holds what JSON can't"),
        (lambda: JSONSchema(int), "a JSON schema is a dict, .* not <class 'int'>"),  # type: ignore[arg-type]
        (lambda: Choice([]), "needs labels to choose from"),
        (lambda: Choice(["a", ""]), "none of them empty"),
        (lambda: Choice("yes"), "takes a list of labels"),
        (lambda: Choice(["\ud800"]), "half a character"),
        (lambda: Choice(["a"]) & "b", "str can't be joined with &"),
    ],
)
def test_what_is_malformed_is_refused_at_once(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ControlError, match=f"(?s){words}"):
        make()


def test_what_python_means_by_a_letter_holds_inside_a_class_and_behind_a_backslash(tiny_model: TinyModel) -> None:
    for pattern, text in (
        *((r"[\w-]{3}", "é-_"), (r"\\w", "\\w"), (r"\S", "x"), (r"\s", "\x1c"), (r"[]a\[]\++", "[++")),
        *((r"[\-\&\&+-]{2}", "&-"), (r"a\{1}+", "a{1}}")),
    ):
        control = Regex(pattern) & Choice([text])
        [[found]] = tiny_model().generate([ASKED], control=control)
        assert (found.text, found.finish_reason) == (text, "stop")
    with pytest.raises(ControlError, match="no token may come first"):
        tiny_model().generate([ASKED], control=Regex(r"[^\s]") & Choice(["\x1c"]))


def test_a_grammar_may_name_special_tokens(tiny_model: TinyModel) -> None:
    model = tiny_model()
    [[found]] = model.generate([ASKED], control=Grammar('start: "a" <|im_start|> "b"'))
    assert model.tokenizer.decode(found.token_ids) == "a<|im_start|>b"
    with pytest.raises(ControlError, match=r"this tokenizer can't write the grammar: .*unknown special token"):
        model.generate([ASKED], control=Grammar('start: "a" <|none|> "b"'))


def test_joined_controls_allow_what_all_allow(tiny_model: TinyModel) -> None:
    control = (
        Choice(["yes", "no", "perhaps", "never"])
        & Regex("[a-z]{3,5}")
        & Grammar('start: "y" REST | "n" REST\nREST: /.+/')
    )
    [found] = tiny_model().generate([ASKED], Sampling(temperature=1.0, n=64, seed=0), control=control)
    assert {c.text for c in found if c.finish_reason == "stop"} == {"yes", "never"}
    assert {c.text for c in found if c.finish_reason == "control"} <= {"no"}


@pytest.mark.real
def test_the_embedded_model_fills_a_schema(embedded: LocalModel) -> None:
    asked = "Ada Lovelace was born in 1815 and wrote about engines. Describe her as JSON with name and born."
    schema = {**PERSON, "properties": {**PERSON["properties"], "name": {"type": "string", "maxLength": 20}}}
    [[found]] = embedded.generate(asked, Sampling(max_tokens=64), control=JSONSchema(schema))
    validate(json.loads(found.text), schema)
    assert "Ada" in json.loads(found.text)["name"]
