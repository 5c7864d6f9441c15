"""Whether a text has the form that was asked for, and how long it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from condition.errors import DataError, SettingsError


def is_json(prediction: str, schema: Mapping[str, Any] | type[BaseModel] | None = None) -> dict[str, float]:
    """`json`: whether the whole text is JSON; `schema`: whether it also fits a JSON schema or a pydantic class.

    A JSON schema needs the package jsonschema. Raises DataError for what is no schema.
    """
    try:
        value = json.loads(prediction)
    except (ValueError, RecursionError):
        return {"json": 0.0} if schema is None else {"json": 0.0, "schema": 0.0}
    return {"json": 1.0} if schema is None else {"json": 1.0, "schema": float(_fits(prediction, value, schema))}


def matches(prediction: str, pattern: str) -> dict[str, float]:
    """1 where a regular expression matches the whole text. Raises DataError for what is none."""
    try:
        found = re.fullmatch(pattern, prediction, re.DOTALL)
    except (re.error, TypeError) as error:
        raise DataError(f"{pattern!r:.80} is no regular expression: {error}") from error
    return {"matches": float(found is not None)}


def length(prediction: str, target: object = None) -> dict[str, float]:
    """Words and characters of a text, whatever its target."""
    return {"words": float(len(prediction.split())), "characters": float(len(prediction))}


def _fits(text: str, value: object, schema: Mapping[str, Any] | type[BaseModel]) -> bool:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        try:
            schema.model_validate_json(text)
        except ValidationError:
            return False
        return True
    if not isinstance(schema, Mapping):
        raise DataError(f"a schema is a mapping or a pydantic class, not {schema!r:.80}")
    try:
        import jsonschema  # type: ignore[import-untyped]  # noqa: PLC0415 - only schemas need it; it has no types
    except ModuleNotFoundError as error:
        raise SettingsError("JSON schemas need jsonschema: pip install 'condition[evaluation]'") from error
    try:
        jsonschema.validate(value, schema)
    except jsonschema.SchemaError as error:
        raise DataError(f"no JSON schema: {error.message}") from error
    except jsonschema.ValidationError:
        return False
    return True
