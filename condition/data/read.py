"""Rows from files, data sets and dictionaries, as Examples. Errors name the file and the line.

read("train.jsonl")                          a column `target`, all others are inputs
read("train.csv", target="label")
read("squad/dev-v2.0.json")                  SQuAD v2, Alpaca, Dolly, GSM8K, ShareGPT, ChatML: by their columns
read(datasets.load_dataset(...)["train"])
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from condition.data.files import Located, Row, nested, rows_of_file
from condition.data.formats import not_text
from condition.data.schemas import Schema, advice, known_schema
from condition.errors import DataError
from condition.types import Example

TARGET = "target"
"""The column that should be written, where no other is named."""

RESERVED = ("id", "rationale")
"""Columns about the row itself: no inputs, unless `read(..., inputs=...)` names them."""


def read(
    source: object, *, target: str = TARGET, inputs: Iterable[str] | None = None, weight: str | None = None
) -> list[Example]:
    """Examples from a path (.json .jsonl .csv .tsv .parquet, .gz of all but the last), a `datasets.Dataset`,
    a pandas DataFrame or rows.

    `target` names the column that should be written, `inputs` those that the prompt may use: by default all others,
    without `id` (names the row) and `rationale` (the reasoning behind the target). `weight` names a column of numbers:
    how much a row counts in training. A conversation gives an Example for each turn of the assistant.
    Raises DataError for a missing file or column, a wrong type or an empty target, with file and line.
    """
    wanted = (inputs,) if isinstance(inputs, str) else None if inputs is None else tuple(inputs)
    found: list[Example] = []
    before: Schema | None = None
    for located in locate(source):
        schema = None if target in located.row else known_schema(located.row)
        found += _examples(located, _Asked(target, wanted, weight), schema, before)
        before = schema or before
    return found


def locate(source: object) -> Iterator[Located]:
    """Each raw row of a source with its place."""
    if isinstance(source, str | Path):
        yield from rows_of_file(Path(source), isinstance(source, str))
    elif isinstance(source, Mapping):
        yield from nested(source, "row")
    elif hasattr(source, "iterrows"):  # a pandas DataFrame, known by what it can do: pandas is not needed here
        yield from locate(_records(source))
    elif isinstance(source, Iterable):
        for number, row in enumerate(source):
            if isinstance(row, Example):
                yield Located({"__example__": row}, f"row {number}")
            elif isinstance(row, Mapping):
                yield Located(row, f"row {number}")
            else:
                raise DataError(f"row {number}: expected a mapping or an Example, got {type(row).__name__}")
    else:
        raise DataError(f"can't read rows from {type(source).__name__}: give a path, a Dataset or a list of rows")


def column_hint(name: str, columns: Iterable[str]) -> str:
    """What may be wrong with the columns where `name` is missing; empty where nothing comes to mind."""
    near = [column for column in columns if column.strip().casefold() == name.casefold()]
    if spaced := [column for column in near if column.strip() == name]:
        return f"; the name {spaced[0]!r} has spaces at its ends: take them out of the header"
    return f"; the name {near[0]!r} differs in its capitals: call it {name!r} in the header" if near else ""


class _Asked(NamedTuple):
    """What `read` was asked for."""

    target: str
    inputs: tuple[str, ...] | None
    weight: str | None


def _examples(located: Located, asked: _Asked, schema: Schema | None, before: Schema | None) -> Iterator[Example]:
    """The Examples of a row; `before` is the schema of the rows before it."""
    row, where = located
    if isinstance(row.get("__example__"), Example):
        example: Example = row["__example__"]
        _checked_target(example.target, where)
        yield example
        return
    _check_texts(row, where)
    if schema is not None and asked.target != TARGET:
        raise DataError(
            f"{where}: no column {asked.target!r}; it has {_columns(row)}{column_hint(asked.target, row)}. By its "
            f"columns the row is {schema.name}: leave `target` out to read it so"
        )
    factor = 1.0 if asked.weight is None else _weight(row, asked.weight, where)
    columns = {name: value for name, value in row.items() if name != asked.weight}
    for found in (_plain(columns, asked, before, where),) if schema is None else schema.examples(columns, where):
        _checked_target(found.target, where)
        if schema is not None and asked.inputs is not None:
            found = found.model_copy(update={"inputs": _taken({**row, **found.inputs}, asked.inputs, where)})
        yield found if asked.weight is None else found.model_copy(update={"weight": factor})


def _plain(row: Row, asked: _Asked, before: Schema | None, where: str) -> Example:
    target = asked.target
    names = asked.inputs if asked.inputs is not None else tuple(n for n in row if n not in (target, *RESERVED))
    chosen = _taken(row, names, where)
    if target not in row:
        told = column_hint(target, row) or advice(row, before)
        raise DataError(f"{where}: no column {target!r}; it has {_columns(row)}{told}")
    text = _checked_target(row[target], where)
    identity = str(row["id"]) if row.get("id") is not None else where
    rationale = row.get("rationale")
    return Example(chosen, text, None if rationale is None else str(rationale), identity)


def _weight(row: Row, name: str, where: str) -> float:
    (value,) = _taken(row, (name,), where).values()
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise DataError(f"{where}: the weight {name!r} is {value!r:.80}: give a number above 0, or drop the row")
    return number


def _taken(row: Row, names: tuple[str, ...], where: str) -> dict[str, Any]:
    for name in names:
        if name not in row:
            raise DataError(f"{where}: no column {name!r}; it has {_columns(row)}{column_hint(name, row)}")
    return {name: row[name] for name in names}


def _columns(row: Row) -> str:
    return ", ".join(map(repr, row)) or "none"


def _check_texts(row: Row, where: str) -> None:
    for name, value in row.items():
        if not isinstance(name, str):
            raise DataError(f"{where}: the column {name!r} has no name that a prompt can use; rename it to a text")
        try:
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{where}: {name!r} holds half a character, which no tokenizer reads: {error}") from error


def _checked_target(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {not_text('the target', value)}")
    if not value.strip():
        raise DataError(
            f"{where}: the target is empty, there is nothing to learn; drop the row or write what should be said"
        )
    return value


def _records(frame: Any) -> list[Row]:
    """Rows of a pandas DataFrame; its marks for a missing value (NaN, NaT, NA) are None, as in every other source."""
    rows: list[Row] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows
