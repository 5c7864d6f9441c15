"""Rows from files, data sets and dictionaries, as Examples. Errors name the file and the line.

read("train.jsonl")                          a column `target`, all others are inputs
read("train.csv", target="label")
read("squad/dev-v2.0.json")                  SQuAD v2, Alpaca, Dolly, GSM8K, ShareGPT, ChatML: by their columns
read(datasets.load_dataset(...)["train"])
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from condition.data.conversations import conversation_examples, is_conversation
from condition.data.formats import is_squad, squad_example, squad_paragraphs
from condition.data.instructions import (
    alpaca_example,
    dolly_example,
    gsm8k_example,
    is_alpaca,
    is_dolly,
    is_gsm8k,
)
from condition.errors import DataError
from condition.types import Example

Row = Mapping[str, Any]

SCHEMAS: tuple[tuple[Callable[[Row], bool], Callable[[Row, str], Example]], ...] = (
    (is_squad, squad_example),
    (is_alpaca, alpaca_example),
    (is_dolly, dolly_example),
    (is_gsm8k, gsm8k_example),
)
"""What a row without the target's column is recognised as, and read by."""

RESERVED = ("id", "rationale")
"""Columns about the row itself: no inputs, unless `read(..., inputs=...)` names them."""

LONGEST_CELL = 1 << 30
"""Characters in a cell of a CSV file; Python's own limit would refuse a long passage."""


class Located(NamedTuple):
    """A row and where it came from, for error messages."""

    row: Row
    where: str


def read(
    source: object, *, target: str = "target", inputs: Iterable[str] | None = None, weight: str | None = None
) -> list[Example]:
    """Examples from a path (.json .jsonl .csv .tsv .parquet, .gz of all but the last), a `datasets.Dataset`,
    a pandas DataFrame or rows.

    `target` names the column that should be written, `inputs` those that the prompt may use: by default all others,
    without `id` (names the row) and `rationale` (the reasoning behind the target). `weight` names a column of numbers:
    how much a row counts in training. A conversation gives an Example for each turn of the assistant.
    Raises DataError for a missing file or column, a wrong type or an empty target, with file and line.
    """
    wanted = (inputs,) if isinstance(inputs, str) else None if inputs is None else tuple(inputs)
    return [example for located in locate(source) for example in _examples(located, target, wanted, weight)]


def locate(source: object) -> Iterator[Located]:
    """Each raw row of a source with its place."""
    if isinstance(source, str | Path):
        yield from _rows_of_file(Path(source), isinstance(source, str))
    elif isinstance(source, Mapping):
        yield from _nested(source, "row")
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
    near = [column for column in columns if column.strip() == name]
    return f"; the name {near[0]!r} has spaces at its ends: take them out of the header" if near else ""


def _examples(located: Located, target: str, inputs: tuple[str, ...] | None, weight: str | None) -> Iterator[Example]:
    row, where = located
    if isinstance(row.get("__example__"), Example):
        example: Example = row["__example__"]
        _checked_target(example.target, where)
        yield example
        return
    _check_texts(row, where)
    factor = 1.0 if weight is None else _weight(row, weight, where)
    columns = row if weight is None else {name: value for name, value in row.items() if name != weight}
    known = () if target in row else tuple(_known(columns, where))
    for found in known or (_plain(columns, target, inputs, where),):
        _checked_target(found.target, where)
        if known and inputs is not None:
            found = found.model_copy(update={"inputs": _taken({**row, **found.inputs}, inputs, where)})
        yield found if weight is None else found.model_copy(update={"weight": factor})


def _known(row: Row, where: str) -> Iterator[Example]:
    """The Examples of a row whose columns are recognised."""
    if is_conversation(row):
        yield from conversation_examples(row, where)
        return
    for fits, example in SCHEMAS:
        if fits(row):
            yield example(row, where)
            return


def _plain(row: Row, target: str, inputs: tuple[str, ...] | None, where: str) -> Example:
    names = tuple(name for name in row if name not in (target, *RESERVED)) if inputs is None else inputs
    chosen = _taken(row, names, where)
    if target not in row:
        advice = column_hint(target, row) or "; say which one should be written, e.g. read(path, target='answer')"
        raise DataError(f"{where}: no column {target!r}; it has {_columns(row)}{advice}")
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
        raise DataError(f"{where}: the target is {type(value).__name__}, not text: {value!r:.80}")
    if not value.strip():
        raise DataError(
            f"{where}: the target is empty, there is nothing to learn; drop the row or write what should be said"
        )
    return value


def _records(frame: Any) -> list[Row]:
    """Rows of a pandas DataFrame; its marks for a missing value (NaN, NaT, NA) are None, as in every other source."""
    rows: list[Row] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


def _rows_of_file(path: Path, named: bool) -> Iterator[Located]:
    texts: dict[str, Callable[[Path], Iterator[Located]]] = {
        ".json": _json,
        ".jsonl": _jsonl,
        ".csv": _csv,
        ".tsv": partial(_csv, separator="\t"),
    }
    readers = {**texts, ".parquet": _parquet, **{f"{ending}.gz": reader for ending, reader in texts.items()}}
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if not path.is_file():
        hub = named and suffix.lower() not in readers and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(path))
        advice = f"; for a data set of the hub: read(datasets.load_dataset('{path}', split='train'))" if hub else ""
        raise DataError(f"{path}: no such file{advice or f' (looked for in {Path.cwd()})'}")
    if suffix.lower() not in readers:
        raise DataError(f"{path}: can't read {suffix or 'a file without an ending'}; use one of {', '.join(readers)}")
    try:
        number = -1
        for number, located in enumerate(readers[suffix.lower()](path)):  # noqa: B007 - counted for the check below
            yield located
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: a damaged gzip file ({error}); copy it again") from error
    if number < 0:
        raise DataError(f"{path}: no rows")


def _open(path: Path) -> Any:
    # utf-8-sig: spreadsheets begin their files with a byte order mark, which is no part of the first column's name
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _jsonl(path: Path) -> Iterator[Located]:
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Located(_mapping(_parsed(line, f"{path}:{number}"), f"{path}:{number}"), f"{path}:{number}")


def _json(path: Path) -> Iterator[Located]:
    with _open(path) as file:
        content = _parsed(file.read(), str(path))
    if isinstance(content, Mapping):
        yield from _nested(content, str(path))
        return
    for number, row in enumerate(content if isinstance(content, list) else [content]):
        yield Located(_mapping(row, f"{path}: row {number}"), f"{path}: row {number}")


def _nested(content: Mapping[str, Any], where: str) -> Iterator[Located]:
    if "data" not in content:
        raise DataError(f"{where}: expected a list of rows, or SQuAD's 'data'; it has {', '.join(map(repr, content))}")
    for number, row in enumerate(squad_paragraphs(content["data"], where)):
        yield Located(row, f"{where}: question {number}")


def _csv(path: Path, separator: str = ",") -> Iterator[Located]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    first = 1  # line of the row that is read: a cell may hold line breaks, and the reader counts to the row's end
    header: list[str] = []
    with _open(path) as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for cells in reader:
                if not header:
                    header = cells
                    _check_header(header, separator, f"{path}:{first}")
                elif cells and len(cells) != len(header):
                    more = "more" if len(cells) > len(header) else "fewer"
                    raise DataError(f"{path}:{first}: {more} cells than the header has")
                elif cells:
                    yield Located(dict(zip(header, cells, strict=True)), f"{path}:{first}")
                first = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{first}: {error}") from error


def _check_header(header: list[str], separator: str, where: str) -> None:
    if twice := [name for name, times in Counter(header).items() if times > 1]:
        raise DataError(f"{where}: the column {twice[0]!r} is there twice")
    if len(header) == 1 and (others := [other for other in ";\t,|" if other in header[0]]):
        raise DataError(
            f"{where}: the header is one column, {header[0]!r:.80}: cells are separated by {separator!r} here, not by "
            f"{others[0]!r}. Save the file with {separator!r}{', or as .tsv' if others[0] == chr(9) else ''}"
        )


def _parquet(path: Path) -> Iterator[Located]:
    import pyarrow  # noqa: PLC0415 - 0.3 s that only Parquet files need
    import pyarrow.parquet as parquet  # noqa: PLC0415

    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    for number, row in enumerate(rows):
        yield Located(row, f"{path}: row {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and deep nesting included
        said = str(error)
        if isinstance(error, json.JSONDecodeError) and "\n" not in text.strip():  # `where` names the line already
            said = f"{error.msg} at character {error.colno}"
        raise DataError(f"{where}: not JSON: {said}") from error


def _mapping(row: object, where: str) -> Row:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with columns, got {type(row).__name__}")
    return row
