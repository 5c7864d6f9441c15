"""Structured answers: of any kind of schema, by any method, whole or an error."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypedDict

import pytest
from jsonschema import validate
from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field, RootModel, field_validator
from pydantic.v1 import BaseModel as OldModel

from condition.errors import ControlError, ModelError, SettingsError
from condition.integrations.langchain import ChatCondition
from condition.integrations.structured import value_of
from condition.models.local import LocalModel
from tests.conftest import TinyModel


class Answer(BaseModel):
    """Whether it is so."""

    right: bool
    count: int | None = None


class OldAnswer(OldModel):
    """Whether it is so."""

    right: bool


class DictAnswer(TypedDict):
    """Whether it is so."""

    right: bool


class Years(RootModel[list[int]]):
    root: list[int] = Field(max_length=2)


SCHEMA = {"type": "object", "properties": {"right": {"type": "boolean"}}, "required": ["right"]}
METHODS = ["json_schema", "json_mode", "function_calling"]


@pytest.fixture
def llm(tiny_model: TinyModel) -> ChatCondition:
    return ChatCondition(tiny_model(), max_tokens=120, temperature=1.0, seed=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("schema", "kind"),
    [(Answer, Answer), (OldAnswer, OldAnswer), (DictAnswer, dict), ({"title": "Answer", **SCHEMA}, dict)],
)
def test_noise_becomes_a_value(llm: ChatCondition, schema: Any, kind: type, method: str) -> None:
    value = llm.with_structured_output(schema, method=method).invoke("x")
    assert type(value) is kind
    assert isinstance(value["right"] if kind is dict else value.right, bool)


def test_it_streams_and_batches_too(llm: ChatCondition) -> None:
    chain = llm.with_structured_output(SCHEMA)
    value = chain.invoke("x")
    validate(value, SCHEMA)
    assert list(chain.stream("x")) == [value]
    assert chain.batch(["x", "y"])[0].keys() == {"right"}
    assert asyncio.run(chain.ainvoke("x")) == value


def test_json_mode_adds_nothing_to_the_prompt(llm: ChatCondition) -> None:
    def tokens(method: str) -> int:
        raw = llm.with_structured_output(SCHEMA, method=method, include_raw=True).invoke("x")["raw"]
        return int(raw.usage_metadata["input_tokens"])

    assert tokens("json_mode") == llm.get_num_tokens_from_messages(llm._convert_input("x").to_messages())
    assert tokens("json_schema") > tokens("json_mode")


@pytest.mark.parametrize("method", METHODS)
def test_cut_off_is_an_error_and_never_half_a_value(llm: ChatCondition, method: str) -> None:
    chain = llm.bind(max_tokens=4).bound.with_structured_output(Answer, method=method)  # type: ignore[attr-defined]
    short = ChatCondition(llm.model, max_tokens=4).with_structured_output(Answer, method=method)
    with pytest.raises(ModelError, match="no whole JSON, it was cut off at max_tokens: raise it"):
        short.invoke("x")
    both = ChatCondition(llm.model, max_tokens=4).with_structured_output(Answer, method=method, include_raw=True)
    found = both.invoke("x")
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], ModelError)
    assert isinstance(found["raw"], AIMessage)
    assert isinstance(chain.invoke("x"), Answer)


def test_include_raw(llm: ChatCondition) -> None:
    found = llm.with_structured_output(Answer, include_raw=True).invoke("x")
    assert isinstance(found["parsed"], Answer)
    assert found["parsing_error"] is None
    assert Answer.model_validate_json(found["raw"].content) == found["parsed"]


def test_checks_of_the_schema_itself_are_named() -> None:
    class Even(BaseModel):
        count: int

        @field_validator("count")
        @classmethod
        def _even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("not even")
            return value

    with pytest.raises(ModelError, match="Even refuses the answer"):
        value_of(AIMessage('{"count": 3}'), Even)
    assert value_of(AIMessage('{"count": 4}'), Even).count == 4


@pytest.mark.parametrize(
    ("schema", "method", "message"),
    [
        (Answer, "telepathy", "give json_schema"),
        (3, "json_schema", "3 is no schema"),
        (3, "function_calling", "no tool"),
        ({"title": "Year", "type": "integer"}, "function_calling", "object with properties"),
        (Years, "function_calling", "object with properties"),
    ],
)
def test_what_does_not_fit_is_an_error(llm: ChatCondition, schema: Any, method: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        llm.with_structured_output(schema, method=method)


@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize(
    "schema",
    [
        {"title": "Colour", "enum": ["red", "blue"]},
        {"title": "Year", "type": "integer", "minimum": 1000, "maximum": 9999},
        {"title": "Either", "anyOf": [{"const": "a"}, {"type": "boolean"}]},
        {"name": "years", "schema": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}},
        Years,
    ],
)
def test_a_schema_of_other_than_an_object_holds_with_its_title(llm: ChatCondition, schema: Any, method: str) -> None:
    wanted = schema.get("schema", schema) if isinstance(schema, dict) else Years.model_json_schema()
    for raw in llm.with_structured_output(schema, method=method, include_raw=True).batch(["x", "y", "z"]):
        validate(json.loads(raw["raw"].text), wanted)
        assert raw["parsing_error"] is None


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_malformed_schema_is_refused_before_any_call(llm: ChatCondition, method: str) -> None:
    with pytest.raises(ControlError, match="Invalid type: nonsense"):
        llm.with_structured_output({"title": "a", "type": "nonsense"}, method=method)


def test_openais_response_format(llm: ChatCondition) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    validate(value_of(llm.invoke("x", response_format=wanted), SCHEMA), SCHEMA)
    with pytest.raises(SettingsError, match="response_format='json'"):
        llm.invoke("x", response_format="json")


@pytest.mark.real
def test_the_embedded_model_fills_a_schema(embedded: LocalModel) -> None:
    class Person(BaseModel):
        """A person of whom the text tells."""

        name: str
        born: int

    chain = ChatCondition(embedded, max_tokens=60).with_structured_output(Person)
    assert chain.invoke("Ada Lovelace was born in 1815. Who is it?").name == "Ada Lovelace"
