"""Rows of files, each with its place: .json .jsonl .csv .tsv .parquet, and .gz of all but the last.

rows_of_file(Path("train.jsonl"))      Located({"q": "1 + 1?", "target": "2"}, "train.jsonl:1") …
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from condition.data.nested import squad_paragraphs
from condition.errors import DataError

Row = Mapping[str, Any]

LONGEST_CELL = 1 << 30
"""Characters in a cell of a CSV file; Python's own limit would refuse a long passage."""


class Located(NamedTuple):
    """A row and where it came from, for error messages."""

    row: Row
    where: str


def rows_of_file(path: Path, named: bool) -> Iterator[Located]:
    """Each row of a file. `named`: the path was given as a text, which may be a data set of the hub.

    Raises DataError for a missing file, an unknown ending, no rows, and what can't be read, with the line.
    """
    texts: dict[str, Callable[[Path], Iterator[Located]]] = {
        ".json": _json,
        ".jsonl": _jsonl,
        ".csv": _csv,
        ".tsv": partial(_csv, separator="\t"),
    }
    readers = {**texts, ".parquet": _parquet, **{f"{ending}.gz": reader for ending, reader in texts.items()}}
    suffix = _ending(path)
    if not path.is_file():
        hub = named and suffix not in readers and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(path))
        advice = f"; for a data set of the hub: read(datasets.load_dataset('{path}', split='train'))" if hub else ""
        if path.is_dir():
            advice = _files_within(path, readers) + advice
        raise DataError(f"{path}: no such file{advice or f' (looked for in {Path.cwd()})'}")
    if suffix not in readers:
        raise DataError(f"{path}: can't read {suffix or 'a file without an ending'}; use one of {', '.join(readers)}")
    try:
        number = -1
        for number, located in enumerate(readers[suffix](path)):  # noqa: B007 - counted for the check below
            yield located
    except UnicodeDecodeError as error:
        raise DataError(f"{_undecodable(path)}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: a damaged gzip file ({error}); copy it again") from error
    if number < 0:
        raise DataError(f"{path}: no rows")


def nested(content: Mapping[str, Any], where: str) -> Iterator[Located]:
    """The questions of SQuAD's own form, {'data': [...]}. Raises DataError for any other."""
    if "data" not in content:
        raise DataError(
            f"{where}: expected a list of rows, or SQuAD's 'data'; it has {', '.join(map(repr, content))}. "
            "A single row goes into a list of one"
        )
    for number, row in enumerate(squad_paragraphs(content["data"], where)):
        yield Located(row, f"{where}: question {number}")


def _ending(path: Path) -> str:
    return ("".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix).lower()


def _files_within(folder: Path, readers: Mapping[str, object]) -> str:
    found = sorted(file.name for file in folder.iterdir() if file.is_file() and _ending(file) in readers)
    held = f"it holds {', '.join(found[:3])}{' …' if len(found) > 3 else ''}" if found else "it holds none that is read"
    return f", but a folder: give one of its files ({held})"


def _undecodable(path: Path) -> str:
    """The line of the first byte that is no UTF-8: where a reader met it counts from a piece of the file."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"{path}:{number}, byte {error.start + 1}"
    return str(path)


def _open(path: Path) -> Any:
    # utf-8-sig: spreadsheets begin their files with a byte order mark, which is no part of the first column's name
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _jsonl(path: Path) -> Iterator[Located]:
    begun = False
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if text := line.strip():
                # What begins and goes on below is one document over several lines, no row.
                whole = not begun and text[0] in "[{" and text[-1] in "[{,"
                row = _parsed(line, f"{path}:{number}", _named_otherwise(path, "one JSON document") if whole else "")
                if isinstance(row, list) and row and all(isinstance(each, Mapping) for each in row):
                    advice = _named_otherwise(path, "a list of rows in one piece")
                    raise DataError(f"{path}:{number}: expected an object with columns, got a list{advice}")
                yield Located(_mapping(row, f"{path}:{number}"), f"{path}:{number}")
                begun = True


def _json(path: Path) -> Iterator[Located]:
    with _open(path) as file:
        text = file.read()
    try:
        content = _parsed(text, str(path))
    except DataError as error:
        first, _, others = text.lstrip().partition("\n")
        if not others.strip() or not _is_row(first):
            raise
        raise DataError(f"{error}{_named_otherwise(path, 'a row on each line')}") from error.__cause__
    if isinstance(content, Mapping):
        yield from nested(content, str(path))
        return
    for number, row in enumerate(content if isinstance(content, list) else [content]):
        yield Located(_mapping(row, f"{path}: row {number}"), f"{path}: row {number}")


def _is_row(line: str) -> bool:
    try:
        return isinstance(json.loads(line), Mapping)
    except (ValueError, RecursionError):
        return False


def _named_otherwise(path: Path, holds: str) -> str:
    """Advice for a file whose ending says another of the two forms than it has."""
    ending = _ending(path)
    other = ".json" if ending.startswith(".jsonl") else ".jsonl"
    return f"; it looks like {holds}: name it {path.name[: -len(ending)]}{other}{'.gz' * ending.endswith('.gz')}"


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
                    raise DataError(f"{path}:{first}: {_other_number(cells, header, separator)}")
                elif cells:
                    yield Located(dict(zip(header, cells, strict=True)), f"{path}:{first}")
                first = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{first}: {error}{_quoted(str(error), separator)}") from error


def _other_number(cells: list[str], header: list[str], separator: str) -> str:
    """What may be wrong with a row of more or fewer cells than the header."""
    counted = f"({len(cells)}, not {len(header)})"
    if len(cells) > len(header):
        return (
            f"more cells than the header has {counted}: put quotation marks round a cell that holds {separator!r}, "
            f'as in "a{separator} b", or name the column in the header'
        )
    return (
        f"fewer cells than the header has {counted}: a cell is missing, or a line break stands in one without "
        f"quotation marks round it; leave an empty cell for no value"
    )


def _quoted(error: str, separator: str) -> str:
    """What to do about a quotation mark that the reader of CSV did not expect."""
    if "unexpected end of data" in error:
        return (
            ": a quotation mark that opens a cell of this row is never closed; close it behind the cell, or double it "
            'where it is meant as a character, as in """Hello"" she said"'
        )
    if "expected after" in error:
        return (
            f": a cell that begins with a quotation mark goes on behind the second one; double those within, as in "
            f'"""Hello"" she said"{separator}'
        )
    return ""


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


def _parsed(text: str, where: str, advice: str = "") -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and deep nesting included
        said = str(error)
        if isinstance(error, json.JSONDecodeError) and "\n" not in text.strip():  # `where` names the line already
            # Of a line that is cut off, the reader finds its fault behind the line break.
            place = min(error.pos, len(text.rstrip("\r\n")))
            said = f"{error.msg} at character {json.JSONDecodeError(error.msg, text, place).colno}"
        raise DataError(f"{where}: not JSON: {said}{advice}") from error


def _mapping(row: object, where: str) -> Row:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with columns, got {type(row).__name__}")
    return row
