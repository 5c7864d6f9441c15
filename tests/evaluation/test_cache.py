from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.errors import DataError, SettingsError
from condition.evaluation.cache import UNKEPT, Answers, row_hash
from condition.evaluation.tasks.task import Reply
from condition.types import Score, Usage

REPLY = Reply("böse\nline", (Score(-1.25, 2, 9), Score(-math.inf, 1, 3)), ("böse\nline", ""))


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    first = Answers(tmp_path / "new" / "folder", "s")
    first.add({"a": REPLY}, Usage(input_tokens=3), 1.5)
    first.add({"b": Reply("plain"), "c": Reply("", None, ("", "x"))}, Usage(output_tokens=2), 0.5)
    again = Answers(tmp_path / "new" / "folder", "s")
    assert again.rows == first.rows
    assert again.rows["a"].reply == REPLY
    assert again.costs == first.costs
    assert [again.rows[name].batch for name in "abc"] == [0, 1, 1]
    assert Answers(tmp_path / "new" / "folder", "other").rows == {}


def test_a_line_that_was_cut_off_costs_its_own_rows_only(tmp_path: Path) -> None:
    answers = Answers(tmp_path, "s")
    for name in "abc":
        answers.add({name: Reply(name)}, Usage(), 1.0)
    path = tmp_path / "s.jsonl"
    content = path.read_bytes()
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        found = Answers(tmp_path, "s")
        assert all(kept.reply.text == name for name, kept in found.rows.items())
        found.add({"d": Reply("d")}, Usage(), 1.0)
        assert Answers(tmp_path, "s").rows.keys() == {*found.rows, "d"}


@pytest.mark.parametrize(
    "line", ["[]", "5", '{"rows": 3}', '{"rows": {"a": ["x"]}, "usage": {}, "seconds": 1}', "\udcff"]
)
def test_lines_that_are_not_ours_are_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.jsonl").write_bytes(line.encode(errors="surrogateescape") + b"\n")
    assert Answers(tmp_path, "s").rows == {}


def test_the_first_answer_to_a_row_stays(tmp_path: Path) -> None:
    one, other = Answers(tmp_path, "s"), Answers(tmp_path, "s")
    one.add({"a": Reply("first")}, Usage(), 1.0)
    other.add({"a": Reply("second")}, Usage(), 1.0)
    assert Answers(tmp_path, "s").rows["a"].reply.text == "first"


def test_in_memory_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Answers(None, "").add({"a": REPLY}, Usage(), 1.0)
    Answers(tmp_path, "s").add({f"{UNKEPT}0": REPLY}, Usage(), 1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="is a file: give a folder"):
        Answers(tmp_path / "file", "s")
    with pytest.raises((SettingsError, DataError)):
        Answers(tmp_path / "file" / "in", "s")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values, values)
def test_a_hash_tells_apart(one: Any, other: Any) -> None:
    assert row_hash(one) == row_hash(one)
    if repr(one) != repr(other) and one != other:
        assert row_hash(one) != row_hash(other)


@pytest.mark.parametrize("content", [object(), {1: "a"}, (1, 2), float("nan"), {"x": {1, 2}}, [b"x"]])
def test_what_json_does_not_hold_exactly_has_none(content: Any) -> None:
    assert row_hash(content) is None


def test_the_order_of_inputs_does_not_matter() -> None:
    assert row_hash([{"a": 1, "b": {"c": 2, "d": 3}}]) == row_hash([{"b": {"d": 3, "c": 2}, "a": 1}])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_loses_nothing_that_was_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "s.jsonl").symlink_to("/dev/full")
    answers = Answers(tmp_path, "s")
    answers.add({"a": REPLY}, Usage(), 1.0)
    answers.add({"b": Reply("plain")}, Usage(), 1.0)
    assert {row: kept.reply for row, kept in answers.rows.items()} == {"a": REPLY, "b": Reply("plain")}
    (warned,) = caplog.records
    assert "no more answers are kept" in warned.message


def test_a_conversation_is_kept_whole(tmp_path: Path) -> None:
    said = Reply("last", None, ("last",), ("first", "last"))
    Answers(tmp_path, "s").add({"a": said}, Usage(), 1.0)
    assert Answers(tmp_path, "s").rows["a"].reply == said
