from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from condition.errors import DataError
from condition.evaluation.metrics import is_json, length, matches


class Person(BaseModel):
    name: str


SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize("schema", [SCHEMA, Person])
@pytest.mark.parametrize(
    ("text", "json", "fits"),
    [('{"name": "Ada"}', 1, 1), ('{"name": 5}', 1, 0), ("[]", 1, 0), ("name", 0, 0), ("", 0, 0)],
)
def test_json(text: str, json: float, fits: float, schema: Any) -> None:
    assert is_json(text) == {"json": json}
    assert is_json(text, schema) == {"json": json, "schema": fits}


def test_nesting_without_end() -> None:
    assert is_json("[" * 100_000) == {"json": 0.0}


@pytest.mark.parametrize("schema", [5, {"type": "no such type"}])
def test_no_schema(schema: Any) -> None:
    with pytest.raises(DataError, match="schema"):
        is_json("{}", schema)


def test_matches_the_whole_text() -> None:
    assert matches("2024-01-31", r"\d{4}-\d\d-\d\d") == {"matches": 1.0}
    assert matches("on 2024-01-31", r"\d{4}-\d\d-\d\d") == {"matches": 0.0}
    with pytest.raises(DataError, match="is no regular expression"):
        matches("x", "(")


def test_length() -> None:
    assert length(" two words ") == {"words": 2.0, "characters": 11.0}
