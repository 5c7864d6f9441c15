"""What goes wrong in the middle of a run loses nothing that was written: the best checkpoint stays, and can be used."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from condition.errors import DataError, ModelError
from condition.training.checkpoints import STATE, WEIGHTS, digest, is_complete
from tests.conftest import TinyModel
from tests.training.test_fit import ROWS, fit

HELD = [{"q": f"When was {i}?", "target": "blue " * (1 + i)} for i in range(5)]


def checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def best(output: Path) -> Path:
    """What the newest checkpoint says is the best one."""
    told = json.loads((checkpoints(output)[-1] / STATE).read_text())
    return output / f"checkpoint-{told['best_global_step']}"


def test_a_learning_rate_that_explodes_in_the_middle(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, output = tiny_model(), tmp_path / "run"
    for _ in range(2):  # the same call again comes to the same end, and loses nothing either
        with pytest.raises(ModelError, match=r"Lower Settings\.learning_rate; checkpoints written before are intact"):
            # Rises step by step, to what no weight survives.
            fit(base, held=HELD, output=output, learning_rate=1e5, warmup=0.95, max_steps=20, eval_every=1, keep=3)
        assert len(checkpoints(output)) == 3
        assert all(is_complete(folder) for folder in checkpoints(output))
        tensors = load_file(best(output) / WEIGHTS)
        assert tensors
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
        losses = {
            line["step"]: line["eval_loss"]
            for line in json.loads((checkpoints(output)[-1] / STATE).read_text())["log_history"]
            if "eval_loss" in line
        }
        assert len(losses) > 3
        assert best(output).name == f"checkpoint-{min(losses, key=lambda step: losses[step])}"
    calm = fit(base, held=HELD, output=output, learning_rate=1e-2, max_steps=2, resume=False)
    assert calm.contract is not None
    assert calm.contract.metrics["best_eval_loss"] < min(losses.values())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A disk of 400 kB, and what makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        subprocess.run(command, check=True, capture_output=True)

    try:
        mount("size=400k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a disk of a given size")
    try:
        yield disk, lambda: mount("remount,size=8m")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_disk_that_fills_up(
    tiny_model: TinyModel, tmp_path: Path, small_disk: tuple[Path, Callable[[], None]]
) -> None:
    disk, grow = small_disk
    base, output = tiny_model(), disk / "run"
    options = {"held": HELD, "max_steps": 6, "eval_every": 1, "keep": 9, "output": output}
    with pytest.raises(
        ModelError, match=r"can't write .*checkpoint-\d: .* MB are free there, at least 1 MB are needed\. Make room"
    ):
        fit(base, **options)
    written = checkpoints(output)
    assert 0 < len(written) < 6
    assert all(is_complete(folder) for folder in written)
    assert best(output) in written
    grow()
    resumed = fit(base, **options)
    whole = fit(base, **{**options, "output": tmp_path / "whole"})
    assert digest(resumed.network) == digest(whole.network)
    assert resumed.history.series("eval_loss")[1] == whole.history.series("eval_loss")[1]


@pytest.mark.parametrize(("name", "flipped"), [(WEIGHTS, False), (STATE, False), (WEIGHTS, True)])
def test_a_corrupt_newest_checkpoint_leaves_the_best_one(
    tiny_model: TinyModel, tmp_path: Path, name: str, flipped: bool
) -> None:
    """Torn by a crash of the machine, as long as it was and half of it zeros; or a bit of its last number flipped."""
    base, output = tiny_model(), tmp_path / "run"
    # A rate that only rises overshoots soon, so that the best is not the newest.
    options = {"held": HELD, "max_steps": 5, "eval_every": 1, "output": output, "learning_rate": 0.3}
    first = digest(fit(base, **options).network)
    shutil.rmtree(output / "finished")
    newest, kept = checkpoints(output)[-1], best(output)
    assert newest != kept
    content = (newest / name).read_bytes()
    half = len(content) // 2
    (newest / name).write_bytes(content[:-1] + bytes([content[-1] ^ 64]) if flipped else bytes(half) + content[half:])
    again = fit(base, **options)
    assert digest(again.network) == first
    assert is_complete(kept)


def test_a_broken_row_far_down_costs_no_checkpoint(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, output = tiny_model(), tmp_path / "run"
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(ROWS[i % len(ROWS)]) for i in range(2000)]
    path.write_text("\n".join(lines))
    fit(base, str(path), output=output, max_steps=2, save_every=1)
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    lines[1399] = lines[1399][:-3]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"rows\.jsonl:1400: not JSON"):
        fit(base, str(path), output=output, max_steps=2, save_every=1)
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before
