"""The classic recipe, as a script and as a notebook, with the embedded model in place of the download, on few rows."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEW = ["--model", "embedded", "--rows", "16", "--steps", "1", "--every", "1"]

pytestmark = pytest.mark.real


def test_it_tunes_tracks_saves_and_answers(short: Path, tmp_path: Path) -> None:
    offline = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    command = [
        sys.executable,
        str(EXAMPLES / "chapter_recipe.py"),
        *FEW,
        *("--data", str(short / "train.jsonl"), "--validation", str(short / "validation.jsonl")),
        *("--report", "wandb", "--output", str(tmp_path)),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, env={**os.environ, **offline}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "best validation loss" in done.stdout
    assert "A: " in done.stdout
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    contract = json.loads((tmp_path / "adapter" / "condition.json").read_text())
    assert contract["adapter"] | {"rank": 64, "alpha": 16.0, "dropout": 0.1} == contract["adapter"]
    assert contract["quantization"]["kind"] == "nf4"
    assert (contract["settings"]["batch_size"], contract["settings"]["accumulation"]) == (4, 4)


@pytest.mark.parametrize(
    ("repo", "said"), [("not a repo name", "is no name of a repository"), ("me/qa", "there is no token here. Log in")]
)
def test_where_it_can_not_be_pushed_to_is_seen_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, repo: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["chapter_recipe.py", *FEW, "--push", repo])
    monkeypatch.setattr("condition.models.hub.get_token", lambda: None)
    monkeypatch.setattr("condition.load", lambda *_, **__: pytest.fail("a model was loaded first"))
    with pytest.raises(SystemExit, match=said):
        runpy.run_path(str(EXAMPLES / "chapter_recipe.py"), run_name="__main__")


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "chapter_recipe.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env={**os.environ, "RECIPE_ROWS": "4", "RECIPE_EVERY": "1"})
    assert (tmp_path / "recipe" / "adapter" / "adapter_model.safetensors").is_file()
    assert notebook.cells[-1].outputs[-1]["data"]["text/plain"]
