"""Schemas put together accept what each of them did, and nothing beside."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from condition.control.grammar import JSONSchema
from condition.integrations.schemas import hoisted

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TREE = {
    "$defs": {
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "of": {"$ref": "#/$defs/P"}}},
        "P": POINT,
    },
    "$ref": "#/$defs/Node",
}
OLD = {"definitions": {"Node": {"type": "string"}}, "type": "array", "items": {"$ref": "#/definitions/Node"}}
WHOLE = {"type": "object", "properties": {"child": {"$ref": "#"}}}
NAMES = {
    "type": "object",
    "properties": {"definitions": {"const": 1}, "$ref": {"const": 2}, "allOf": {"enum": [{"properties": {}}]}},
}


def fits(schema: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(value))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (POINT, {"x": 1}, {"x": 1, "y": 2}),
        (TREE, {"next": {"next": {}, "of": {"x": 1}}}, {"next": {"of": {"x": "1"}}}),
        (OLD, ["a"], [1]),
        (WHOLE, {"child": {"child": {}}}, {"child": 1}),
        (NAMES, {"definitions": 1, "$ref": 2, "allOf": {"properties": {}}}, {"definitions": 2}),
        ({**POINT, "additionalProperties": {"type": "null"}}, {"x": 1, "y": None}, {"x": 1, "y": 2}),
        ({"allOf": [POINT, {"properties": {"y": {"type": "null"}}}]}, {"x": 1, "y": None}, {"y": None}),
    ],
)
def test_alone_and_beside_others(schema: dict[str, Any], good: Any, bad: Any) -> None:
    for whole in (hoisted([schema]), hoisted([{"const": 0}, schema, TREE | {"$ref": "#/$defs/P"}])):
        Draft202012Validator.check_schema(whole)
        assert fits(whole, good)
        assert not fits(whole, bad)


def test_they_can_be_written() -> None:
    for schemas in ([TREE, OLD], [WHOLE], [NAMES, POINT]):
        JSONSchema(hoisted(schemas))
