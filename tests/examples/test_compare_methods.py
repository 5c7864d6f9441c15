"""The comparison of methods, run as a user runs it, on a handful of rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import condition as cd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEW = ("--rows", "2", "--train", "4", "--max-steps", "1", "--samples", "2")


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("compare_methods", EXAMPLES / "compare_methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.real
def test_a_table_and_a_page_and_a_second_run_that_asks_nothing(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main([*FEW, "--output", str(tmp_path)])
    table = (tmp_path / "compare.md").read_text(encoding="utf-8")
    names = ("zero-shot", "few-shot (4, similarity)", "self-consistency", "prompt tuning", "LoRA")
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:7]] == list(names)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in page for name in names)
    assert "prompt tuning: training on 4 rows" in capsys.readouterr().out

    def asked(*given: Any, **more: Any) -> None:
        raise AssertionError("a model was asked again")

    for other in ({"train": "3"}, {"max-steps": "2"}):  # what was tuned otherwise is not taken up
        changed = [*FEW, *(part for name, value in other.items() for part in (f"--{name}", value))]
        with monkeypatch.context() as patched:
            patched.setattr(cd.SFTTrainer, "fit", asked)
            with pytest.raises(AssertionError, match="asked again"):
                example.main([*changed, "--output", str(tmp_path)])
    monkeypatch.setattr(cd.LocalModel, "generate", asked)
    monkeypatch.setattr(cd.SFTTrainer, "fit", asked)
    example.main([*FEW, "--output", str(tmp_path)])
    assert (tmp_path / "compare.md").read_text(encoding="utf-8") == table


def test_rows_are_drawn_alike_each_time(example: Any) -> None:
    train, held = example.rows(None, 8, 3)
    assert (train, held) == example.rows(None, 8, 3)
    assert (len(train), len(held)) == (8, 3)


def test_a_folder_without_the_files(example: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"needs train\.jsonl and validation\.jsonl"):
        example.rows(str(tmp_path), 1, 1)
