from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.data import NO_ANSWER, read
from condition.data.read import column_hint, locate
from condition.errors import DataError
from condition.types import Example

ROWS: list[dict[str, Any]] = [
    {"question": "1+1?", "target": "2"},
    {"question": 'Say "a, b"\nthen {c}', "target": "é 猫 {x}"},
    {"question": "", "target": " spaces "},
]


def as_csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {".json": json.dumps, ".jsonl": as_jsonl, ".csv": as_csv}


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def pairs(examples: list[Example]) -> list[tuple[Any, str]]:
    return [(dict(e.inputs), e.target) for e in examples]


EXPECTED = [({"question": row["question"]}, row["target"]) for row in ROWS]


class TestSources:
    @pytest.mark.parametrize("ending", WRITERS)
    @pytest.mark.parametrize("packed", ["", ".gz"])
    def test_text_files(self, tmp_path: Path, ending: str, packed: str) -> None:
        path = write(tmp_path / f"rows{ending}{packed}", WRITERS[ending](ROWS))
        assert pairs(read(path)) == pairs(read(str(path))) == EXPECTED

    @pytest.mark.parametrize("ending", WRITERS)
    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path, ending: str) -> None:
        path = write(tmp_path / f"rows{ending}", b"\xef\xbb\xbf" + WRITERS[ending](ROWS).encode())
        assert pairs(read(path)) == EXPECTED

    def test_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.parquet"
        pandas.DataFrame(ROWS).to_parquet(path)
        assert pairs(read(path)) == EXPECTED

    def test_a_dataset(self) -> None:
        assert pairs(read(datasets.Dataset.from_list(ROWS))) == EXPECTED

    @pytest.mark.parametrize("packed", ["", ".gz"])
    def test_tabs(self, tmp_path: Path, packed: str) -> None:
        path = write(tmp_path / f"a.tsv{packed}", 'q\ttarget\na, b\t"x\ty"\n')
        assert pairs(read(path)) == [({"q": "a, b"}, "x\ty")]

    def test_a_data_frame(self) -> None:
        assert pairs(read(pandas.DataFrame(ROWS))) == EXPECTED
        assert read(pandas.DataFrame(columns=["q", "target"])) == []

    def test_what_is_missing_in_a_data_frame_is_null(self) -> None:
        for column in ([1.5, None], [pandas.Timestamp(0), pandas.NaT], pandas.array([1, None], dtype="Int64")):
            frame = pandas.DataFrame({"x": column, "target": ["a", "b"]})
            assert read(frame)[1].inputs["x"] is None
        with pytest.raises(DataError, match="row 0: the target is NoneType"):
            read(pandas.DataFrame({"q": ["x"], "target": [None]}))

    def test_a_row_is_named_by_its_first_line(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", 'q,target\n"1\n2",a\n\n"3\n\n4",b\n5,c\n')
        assert [e.id for e in read(path)] == [f"{path}:2", f"{path}:5", f"{path}:8"]

    def test_dictionaries_from_a_list_or_a_generator(self) -> None:
        def rows() -> Iterator[dict[str, Any]]:
            yield from ROWS

        assert pairs(read(ROWS)) == pairs(read(rows())) == EXPECTED

    def test_examples_stay_what_they_are(self) -> None:
        examples = [Example({"q": 1}, "a", "why", "id")]
        assert read(examples) == examples

    def test_windows_line_ends(self, tmp_path: Path) -> None:
        for name, text in (("a.csv", "question,target\r\nq,a\r\n"), ("a.jsonl", '{"question":"q","target":"a"}\r\n')):
            assert pairs(read(write(tmp_path / name, text))) == [({"question": "q"}, "a")]

    def test_blank_lines_are_no_rows(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", '\n{"q":"1","target":"a"}\n\n{"q":"2","target":"b"}')
        assert [e.id for e in read(path)] == [f"{path}:2", f"{path}:4"]

    def test_a_long_cell(self, tmp_path: Path) -> None:
        long = "word " * 100_000
        assert read(write(tmp_path / "a.csv", f"q,target\n{long},a\n"))[0].inputs["q"] == long

    @given(st.lists(st.tuples(st.text(), st.text().filter(str.strip)), min_size=1, max_size=4))
    def test_any_text_survives_jsonl(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
    ) -> None:
        path = tmp_path_factory.mktemp("any") / "rows.jsonl"
        for ascii_only in (True, False):
            lines = [json.dumps({"q": q, "target": t}, ensure_ascii=ascii_only) for q, t in rows]
            path.write_bytes("\n".join(lines).encode())
            assert pairs(read(path)) == [({"q": q}, t) for q, t in rows]


class TestColumns:
    row: ClassVar[dict[str, Any]] = {"id": 7, "q": "1", "hint": "h", "label": "a", "rationale": "because"}

    def test_target_by_name_and_the_rest_as_inputs(self) -> None:
        (example,) = read([self.row], target="label")
        assert example == Example({"q": "1", "hint": "h"}, "a", "because", "7")

    @pytest.mark.parametrize(("inputs", "expected"), [(["q"], {"q": "1"}), ("hint", {"hint": "h"}), ([], {})])
    def test_chosen_inputs(self, inputs: Any, expected: dict[str, str]) -> None:
        (example,) = read([self.row], target="label", inputs=inputs)
        assert dict(example.inputs) == expected

    def test_without_an_id_the_place_is_the_id(self) -> None:
        assert [e.id for e in read([{"q": 1, "target": "a"}, {"q": 2, "target": "b", "id": None}])] == [
            "row 0",
            "row 1",
        ]

    def test_other_types_may_be_inputs(self) -> None:
        (example,) = read([{"passages": ["a", "b"], "n": 3, "target": "a"}])
        assert dict(example.inputs) == {"passages": ["a", "b"], "n": 3}


QA = {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}], "is_impossible": False}
NO_QA: dict[str, Any] = {"id": "2", "question": "Why?", "answers": [], "is_impossible": True}
NESTED = {"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "Ada wrote.", "qas": [QA, NO_QA]}]}]}
FLAT: list[dict[str, Any]] = [
    {
        "id": "1",
        "title": "T",
        "context": "Ada wrote.",
        "question": "Who?",
        "answers": {"text": ["Ada"], "answer_start": [0]},
    },
    {"id": "2", "title": "T", "context": "Ada wrote.", "question": "Why?", "answers": {"text": [], "answer_start": []}},
]


class TestSquad:
    expected: ClassVar[list[Example]] = [
        Example({"title": "T", "context": "Ada wrote.", "question": "Who?"}, "Ada", id="1"),
        Example({"title": "T", "context": "Ada wrote.", "question": "Why?"}, NO_ANSWER, id="2"),
    ]

    def test_nested_file_and_dictionary(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / "dev.json", json.dumps(NESTED))) == self.expected
        assert read(NESTED) == self.expected

    def test_flat_rows_from_everywhere(self, tmp_path: Path) -> None:
        pandas.DataFrame(FLAT).to_parquet(tmp_path / "dev.parquet")
        for source in (
            FLAT,
            datasets.Dataset.from_list(FLAT),
            write(tmp_path / "dev.json", json.dumps(FLAT)),
            write(tmp_path / "dev.jsonl", as_jsonl(FLAT)),
            tmp_path / "dev.parquet",
            pandas.read_parquet(tmp_path / "dev.parquet"),
        ):
            assert read(source) == self.expected

    def test_an_answer_in_a_cell(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "context,question,answers\nc,q,Ada\nc,q,\n")
        assert [e.target for e in read(path)] == ["Ada", NO_ANSWER]

    def test_chosen_inputs(self) -> None:
        assert dict(read(FLAT, inputs=["question"])[0].inputs) == {"question": "Who?"}

    def test_a_target_column_comes_first(self) -> None:
        (example,) = read([{**FLAT[0], "target": "own"}])
        assert example.target == "own"

    @pytest.mark.parametrize(
        "broken",
        [
            {"data": [{"paragraphs": [{"context": "c"}]}]},
            {"data": [{"title": "T"}]},
            {"data": ["article"]},
            {"data": 5},
            {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q"}]}]}]},
            {"data": [["paragraphs"]]},
        ],
    )
    def test_a_broken_schema_is_named(self, tmp_path: Path, broken: Any) -> None:
        path = write(tmp_path / "dev.json", json.dumps(broken))
        with pytest.raises(DataError, match=r"dev\.json: looks like SQuAD but breaks its schema"):
            read(path)

    @pytest.mark.parametrize("change", [{"answers": 7}, {"answers": {"text": [1]}}, {"answers": None}, {"context": 5}])
    def test_wrong_types_are_named(self, change: dict[str, Any]) -> None:
        with pytest.raises(DataError, match=f"row 0: '{next(iter(change))}'"):
            read([{**FLAT[0], **change}])

    def test_the_real_file(self, shared_data: Path) -> None:
        examples = read(shared_data / "squad_v2" / "validation.jsonl")
        assert len(examples) > 100
        assert 0.3 < sum(e.target == NO_ANSWER for e in examples) / len(examples) < 0.7


# file name, content, what the message holds behind the path
BROKEN: list[tuple[str, str | bytes, str]] = [
    ("a.jsonl", '{"q":"1","target":"a"}\n{"q":"2","target":"b"}\n{oops\n', ":3: not JSON"),
    ("a.jsonl", '{"q":"1","target":"a"}\n["q"]\n', ":2: expected an object with columns, got list"),
    ("a.jsonl", '{"q":"1","target":"a"}\n{"q":"2"}\n', ":2: no column 'target'; it has 'q'"),
    ("a.jsonl", '{"q":"1","target":"a"}\n{}\n', ":2: no column 'target'; it has none"),
    ("a.jsonl", '{"q":"1","target":"  "}\n', ":1: the target is empty"),
    ("a.jsonl", '{"q":"1","target":7}\n', ":1: the target is int, not text"),
    ("a.jsonl", '{"q":"1","target":null}\n', ":1: the target is NoneType, not text"),
    ("a.jsonl", '{"q":"1","target":"\\ud800"}\n', ":1: "),
    ("a.jsonl", "[" * 100_000, ":1: not JSON"),
    ("a.jsonl", '{"target": ' + "9" * 5000 + "}", ":1: not JSON"),
    ("a.jsonl", b'{"target": "a"}\n{"target": "\xe9"}', ":2, byte 13: not UTF-8"),
    ("a.jsonl", "", ": no rows"),
    ("a.jsonl", "\n\n", ": no rows"),
    ("a.json", "", ": not JSON"),
    ("a.json", "[]", ": no rows"),
    ("a.json", '{"data": []}', ": no rows"),
    ("a.json", "[5]", ": row 0: expected an object with columns, got int"),
    ("a.json", "5", ": row 0: expected an object with columns, got int"),
    ("a.json", '{"rows": []}', ": expected a list of rows, or SQuAD's 'data'; it has 'rows'"),
    ("a.json", '[{"target": "a"}, {"target": ""}]', ": row 1: the target is empty"),
    ("a.csv", "q,target\n1,a\n2\n", ":3: fewer cells than the header has"),
    ("a.csv", "q,target\n1,a,b\n", ":2: more cells than the header has"),
    ("a.csv", 'q,target\n"1\n2",a\n3,\n', ":4: the target is empty"),
    ("a.csv", 'q,target\n"1" x,a\n', ":2: "),
    ("a.csv", 'q,target\n"1,a\n', ":2: "),
    ("a.csv", 'q,target\n"1\n2",\n', ":2: the target is empty"),
    ("a.csv", 'q,target\n"1\n2",a,b\n', ":2: more cells"),
    ("a.csv", 'q,target\n"1\n2" x,a\n', ":2: "),
    ("a.csv", "q,q,target\n1,2,a\n", ":1: the column 'q' is there twice"),
    (
        "a.csv",
        "q,answer\n1,a\n",
        ":2: no column 'target'; it has 'q', 'answer'; say which one should be written, "
        "e.g. read(path, target='answer')",
    ),
    (
        "a.csv",
        "q;target\na, b;c\n",
        ":1: the header is one column, 'q;target': cells are separated by ',' here, not by ';'",
    ),
    ("a.csv", "q\ttarget\na\tc\n", r":1: the header is one column, 'q\ttarget': cells are separated by ',' here"),
    (
        "a.tsv",
        "q,target\na,c\n",
        r":1: the header is one column, 'q,target': cells are separated by '\t' here, not by ','",
    ),
    ("a.csv", "q, target\n1,a\n", ":2: no column 'target'; it has 'q', ' target'; the name ' target' has spaces"),
    ("a.csv", "", ": no rows"),
    ("a.csv", "q,target\n", ": no rows"),
    ("a.csv", b"q,target\n\xff,a\n", ":2, byte 1: not UTF-8"),
    ("a.parquet", b"no parquet", ": "),
    ("a.txt", "hello", r": can't read .txt; use one of .json, .jsonl, .csv, .tsv, .parquet"),
    ("a", "hello", ": can't read a file without an ending"),
    ("a.parquet.gz", b"x", ": can't read .parquet.gz"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_errors_name_file_and_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"no gzip at all", gzip.compress(as_jsonl(ROWS).encode())[:-12]], ids=["none", "cut off"]
)
def test_a_damaged_gz_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: "):
        read(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "can't read rows from int"),
        (None, "can't read rows from NoneType"),
        ([5], "row 0: expected a mapping or an Example, got int"),
        ([{"q": 1, "target": "a"}, {"q": 1}], "row 1: no column 'target'"),
        ([Example({}, " ")], "row 0: the target is empty"),
        (pandas.DataFrame([["q", "a"]]), "row 0: the column 0 has no name that a prompt can use"),
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}), "'train'"),
    ],
)
def test_errors_name_the_row(source: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(source)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(DataError, match="row 0: no column 'context'; it has 'q', 'target'"):
        read([{"q": 1, "target": "a"}], inputs=["q", "context"])


def test_an_input_with_spaces_around_its_name_is_told() -> None:
    with pytest.raises(DataError, match="no column 'q'; it has 'q ', 'target'; the name 'q ' has spaces at its ends"):
        read([{"q ": 1, "target": "a"}], inputs=["q"])
    assert column_hint("q", ["target", "qq"]) == ""


def test_capitals_in_a_header_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "q, Target\n1,a\n")
    with pytest.raises(DataError, match=r"no column 'target'; .*; the name ' Target' differs .*: call it 'target' in"):
        read(path)
    with pytest.raises(DataError, match=r"no column 'answer'; .*; the name 'Answer' differs in its capitals: call"):
        read([{"q": "1", "Answer": "a"}], target="answer")
    assert "'q ' has spaces" in column_hint("q", ["Q", "q "])


@pytest.mark.parametrize(
    ("name", "told"), [("org/name", True), ("a-b/c.d", True), ("org/rows.csv", False), ("rows", False), ("/a/b", False)]
)
def test_a_name_on_the_hub_is_told(name: str, told: bool) -> None:
    for source in (name, Path(name)):
        with pytest.raises(DataError, match="no such file") as caught:
            read(source)
        assert (f"datasets.load_dataset('{name}'" in str(caught.value)) == (told and isinstance(source, str))


def test_no_rows_in_memory_are_no_examples() -> None:
    assert read([]) == []
    assert list(locate([])) == []


class TestWeights:
    def test_a_column_says_how_much_a_row_counts(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "q,w,target\n1,2.5,a\n2,1,b\n")
        found = read(path, weight="w")
        assert [(dict(e.inputs), e.weight) for e in found] == [({"q": "1"}, 2.5), ({"q": "2"}, 1.0)]
        assert [e.weight for e in read(path)] == [1.0, 1.0]
        assert [e.weight for e in read([{**FLAT[0], "w": 3}], weight="w")] == [3.0]

    @pytest.mark.parametrize("value", [0, -1, "much", None, float("nan"), float("inf")])
    def test_what_is_no_weight(self, value: object) -> None:
        with pytest.raises(DataError, match=r"row 0: the weight 'w' is .*: give a number above 0"):
            read([{"q": "x", "w": value, "target": "a"}], weight="w")
        with pytest.raises(DataError, match="row 0: no column 'v'"):
            read([{"q": "x", "target": "a"}], weight="v")


def test_the_one_broken_line_of_a_hundred_thousand(tmp_path: Path) -> None:
    lines = [f'{{"q": "{i}", "target": "a"}}' for i in range(100_000)]
    lines[69_999] = lines[69_999][:-2]
    path = write(tmp_path / "rows.jsonl", "\n".join(lines))
    with pytest.raises(DataError, match=r"rows\.jsonl:70000: not JSON: "):
        read(path)
