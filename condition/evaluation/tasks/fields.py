"""Columns of a row, with an error that says where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condition.data.read import column_hint
from condition.errors import DataError
from condition.types import Example


def field(row: Mapping[str, Any], where: str, *names: str, empty: bool = False) -> str:
    """The text in the first of some columns that is there; of an Example, its inputs and `target`.

    Raises DataError where there is none, or no text.
    """
    example = row.get("__example__")
    if isinstance(example, Example):
        row = {**example.inputs, names[-1]: example.target, **example.inputs}
    found = next((name for name in names if row.get(name) is not None), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        raise DataError(
            f"{where}: no column {wanted}; it has {', '.join(map(repr, row)) or 'none'}{column_hint(names[0], row)}"
        )
    value = row[found]
    if not isinstance(value, str) or not (empty or value.strip()):
        raise DataError(f"{where}: {found!r} is empty or no text: {value!r:.60}")
    return value
