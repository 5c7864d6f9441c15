"""Habits that no linter holds: short files, named exceptions to the types, modules that are nouns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "condition").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST = 320
NO_NOUNS = {"utils.py", "util.py", "helpers.py", "base.py", "common.py", "misc.py"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_reads_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST, f"{lines} lines: split it by idea"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_is_a_noun(path: Path) -> None:
    assert path.name not in NO_NOUNS


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=relative)
def test_an_ignored_type_names_its_code(path: Path) -> None:
    bare = re.compile(r"#\s*type:\s*ignore(?!\[)" + r"(?=\s|#|$)")
    found = [
        number for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if bare.search(line)
    ]
    assert not found, f"lines {found}: write which error is ignored"


def test_sample_data_is_json_only() -> None:
    found = sorted((ROOT / "condition" / "data" / "sample").iterdir())
    assert found
    assert all(path.suffix == ".json" for path in found)
