"""The demo and the notebook, run as a user runs them, on few rows."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from condition.data import sample

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

FEW = ("--rows", "8", "--epochs", "1")

pytestmark = pytest.mark.real


def run_demo(demo: Any, monkeypatch: pytest.MonkeyPatch, output: Path, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", *FEW, "--output", str(output), *options])
    demo.main()


@pytest.fixture(scope="module")
def demo() -> Any:
    """The demo as a module."""
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_question_finds_its_passage(demo: Any) -> None:
    """The README's own question, whose common words stand in other passages."""
    told = (EXAMPLES.parent / "README.md").read_text()
    (question,) = re.findall(r'QUESTION="(.*?)"', told)
    passage, _ = demo.asked(sample("validation"), question)
    assert "ferry" in passage
    assert "35 minutes" in passage
    with pytest.raises(SystemExit, match="no measured passage has a word of 'xyzzy'"):
        demo.asked(sample("validation"), "xyzzy")


def test_few_rows_are_of_many_passages(demo: Any) -> None:
    _, validation = demo.rows(None, 40)
    assert len({row["context"] for row in validation}) == len(validation) == 10


def test_what_can_not_be_is_said_before_any_work(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "adapter").mkdir(parents=True)
    (tmp_path / "out" / "adapter" / "note.txt").write_text("hi")
    for options, words in {
        ("--output", str(tmp_path / "out")): "holds something that is not a saved model",
        ("--rows", "0"): "0 rows are too few",
        ("--data", str(tmp_path / "nope.json")): "no such file",
        ("--question", "xyzzy"): "no measured passage",
    }.items():
        monkeypatch.setattr(sys, "argv", ["demo.py", *options])
        with pytest.raises(SystemExit) as stopped:  # with words, which Python prints without a traceback
            demo.main()
        said = capsys.readouterr()
        assert stopped.value.code != 0
        assert words in f"{stopped.value.code}{said.err}"
        assert "1. loading" not in said.out


def test_demo_tunes_measures_saves_and_answers(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--output", str(tmp_path), "--question", "When does the descaling light come on?"]
    command = [sys.executable, str(EXAMPLES / "demo.py"), *FEW, *asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "before" in done.stdout
    assert "after" in done.stdout
    assert "A: " in done.stdout
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("condition.training.engine.Engine.train", again)
    run_demo(demo, monkeypatch, tmp_path)
    assert "done in" in capsys.readouterr().out


def test_demo_on_a_quantized_base(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_demo(demo, monkeypatch, tmp_path, "--quantization", "nf4")
    assert "A: " in capsys.readouterr().out


def test_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    client.execute(env={**os.environ, "QUICKSTART_ROWS": "16"})
    answer = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert len(answer) > 2
