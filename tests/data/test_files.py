"""Files that are not read: what is said to do about them. What is read, and with which places: test_read.py."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from condition.data import read
from condition.errors import DataError

ROWS = [{"q": "1 + 1?", "target": "2"}, {"q": "1 + 2?", "target": "3"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def said(path: Path, content: str) -> str:
    """What reading a file says, behind its path."""
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize("indent", [1, None])
@pytest.mark.parametrize(("name", "other"), [("a.b.jsonl", "a.b.json"), ("a.jsonl.gz", "a.json.gz")])
def test_a_json_list_that_is_named_as_lines(tmp_path: Path, name: str, other: str, indent: int | None) -> None:
    text = said(tmp_path / name, json.dumps(ROWS, indent=indent))
    assert text.startswith(":1: ")
    assert text.endswith(f": name it {other}")
    (tmp_path / name).rename(tmp_path / other)
    assert [example.target for example in read(tmp_path / other)] == ["2", "3"]


def test_a_json_object_that_is_named_as_lines(tmp_path: Path) -> None:
    assert said(tmp_path / "a.jsonl", json.dumps({"data": []}, indent=1)).endswith("one JSON document: name it a.json")


@pytest.mark.parametrize(("name", "other"), [("a.json", "a.jsonl"), ("a.json.gz", "a.jsonl.gz")])
def test_lines_that_are_named_as_a_document(tmp_path: Path, name: str, other: str) -> None:
    text = said(tmp_path / name, "\n" + LINES)
    assert text.startswith(": not JSON: Extra data")
    assert text.endswith(f"it looks like a row on each line: name it {other}")
    (tmp_path / name).rename(tmp_path / other)
    assert [example.target for example in read(tmp_path / other)] == ["2", "3"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"q": "1", "target": }\n'),
        ("a.jsonl", LINES + "[\n"),
        ("a.jsonl", '["q"]\n'),
        ("a.json", '[{"q": "1",}]'),
        ("a.json", '[\n{"q": "1"}\n'),
        ("a.json", '{"q": "1"} {"q": "2"}'),
    ],
)
def test_broken_json_is_not_taken_for_the_other_form(tmp_path: Path, name: str, content: str) -> None:
    assert "name it" not in said(tmp_path / name, content)


@pytest.mark.parametrize(
    ("name", "content", "place", "advice"),
    [
        ("a.csv", "q,target\nx,a, b\n", ":2: more", "put quotation marks round a cell that holds ',', as in \"a, b\""),
        ("a.tsv", "q\ttarget\nx\ta\tb\n", ":2: more", "put quotation marks round a cell that holds '\\t'"),
        ("a.csv", "q,target\nx,a\ny\n", ":3: fewer", "leave an empty cell for no value"),
        ("a.csv", 'q,target\nx,a\n"y,b\nz,c\n', ":3: unexpected end of data", "is never closed; close it"),
        ("a.csv", 'q,target\n"x" y,a\n', ":2: ',' expected after", 'double those within, as in """Hello"" she said",'),
    ],
)
def test_a_broken_table_says_what_to_do(tmp_path: Path, name: str, content: str, place: str, advice: str) -> None:
    text = said(tmp_path / name, content)
    assert text.startswith(place)
    assert advice in text


def test_what_is_advised_for_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,target\n"a, b","""Hello"" she said"\n,x\n')
    assert [(e.inputs["q"], e.target) for e in read(path)] == [("a, b", '"Hello" she said'), ("", "x")]


def test_a_folder_names_the_files_to_choose_from(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no such file, but a folder: give one of its files \(it holds none that is re"
    ):
        read(tmp_path)
    for name in ("b.csv", "a.jsonl.gz", "c.parquet", "d.json", "e.txt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"\(it holds a\.jsonl\.gz, b\.csv, c\.parquet …\)"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (5, "the target is int, not text: 5; write it as text, '5', or as the word that the model should say for it"),
        (True, "the target is bool, not text: True; write it as text, 'True'"),
        (None, "the target is NoneType, not text: None; write what should be said, or drop the row"),
        (["a"], r"the target is list, not text: \['a'\]; write it as one text"),
    ],
)
def test_a_target_that_is_no_text_says_what_to_do(value: object, advice: str) -> None:
    with pytest.raises(DataError, match=f"row 0: {advice}"):
        read([{"q": "x", "target": value}])
    with pytest.raises(DataError, match=f"row 0: {advice.replace('target', 'answer')}"):
        read([{"instruction": "x", "output": value}])


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_line_that_is_cut_off_is_told_where_it_ends(tmp_path: Path, end: str) -> None:
    cut = '{"q": "c", "target": '
    text = said(tmp_path / "a.jsonl", LINES + cut + end)
    assert text == f":3: not JSON: Expecting value at character {len(cut) + 1}"
    assert said(tmp_path / "b.json", "\n" + cut + end).endswith(f"Expecting value at character {len(cut) + 1}")
