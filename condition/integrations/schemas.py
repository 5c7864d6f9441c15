"""JSON schemas put together into one, whose references still find what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SHARED = ("$defs", "definitions")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
"""Keywords whose keys are names, not keywords."""
_LITERAL = ("const", "enum", "default", "examples", "x-guidance")
_OPEN = {"additionalProperties", "unevaluatedProperties", "patternProperties"}


def hoisted(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One of several schemas may fit. Objects take no other properties than those named, where they don't say so.

    A small model would fill an open object to the token limit.
    """
    shared: dict[str, Any] = {}
    parts = []
    for number, schema in enumerate(schemas):
        part = _walked(schema, f"{number}.", shared)
        if f"{number}." in shared:  # the schema refers to itself as a whole
            shared[f"{number}."] = part
        parts.append(part)
    whole = parts[0] if len(parts) == 1 else {"anyOf": parts}
    return {**whole, "$defs": shared} if shared else whole


def _walked(node: Any, prefix: str, shared: dict[str, Any], *, closes: bool = True) -> Any:
    """A part of a schema with its definitions moved to the top, under names of its own."""
    if isinstance(node, list):
        return [_walked(part, prefix, shared, closes=closes) for part in node]
    if not isinstance(node, dict):
        return node
    for name, own in ((name, own) for place in _SHARED for name, own in node.get(place, {}).items()):
        shared[prefix + name] = _walked(own, prefix, shared)
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in _LITERAL:
            found[key] = value
        elif key in _NAMED and isinstance(value, dict):
            found[key] = {name: _walked(own, prefix, shared) for name, own in value.items()}
        elif key == "$ref":
            found[key] = _moved(value, prefix, shared)
        elif key not in _SHARED:
            found[key] = _walked(value, prefix, shared, closes=key != "allOf")
    if closes and isinstance(found.get("properties"), dict) and not found.keys() & _OPEN:
        found["additionalProperties"] = False
    return found


def _moved(reference: Any, prefix: str, shared: dict[str, Any]) -> Any:
    """Where a reference's definition is now."""
    if reference == "#":
        shared.setdefault(prefix, {})
        return f"#/$defs/{prefix}"
    place, _, name = str(reference).rpartition("/")
    return f"#/$defs/{prefix}{name}" if place in ("#/$defs", "#/definitions") else reference
