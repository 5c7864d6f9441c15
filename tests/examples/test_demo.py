"""The demo and the notebook, run as a user runs them, on few rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.real


def run_demo(output: Path, *options: str) -> str:
    command = [
        sys.executable,
        str(EXAMPLES / "demo.py"),
        "--rows",
        "16",
        "--epochs",
        "1",
        "--output",
        str(output),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_demo_tunes_measures_saves_and_answers(tmp_path: Path) -> None:
    said = run_demo(tmp_path, "--question", "When does the descaling light come on?")
    assert "before" in said
    assert "after" in said
    assert "A: " in said
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    again = run_demo(tmp_path)  # the finished run is found and not trained again
    assert "done in" in again


def test_demo_on_a_quantized_base(tmp_path: Path) -> None:
    assert "A: " in run_demo(tmp_path, "--quantization", "nf4")


def test_notebook_runs() -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(env={**os.environ, "QUICKSTART_ROWS": "16"})
    answer = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert len(answer) > 2
