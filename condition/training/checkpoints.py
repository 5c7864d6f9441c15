"""Checkpoints that hold only what is trained, and finding the last one that is whole.

output/run.json             what makes the run the same run
output/checkpoint-<step>/   trained tensors, optimizer, schedule, random states
output/finished/            trained tensors and log of a run that came to its end
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condition.adapters.attach import trainable
from condition.errors import SettingsError

WEIGHTS = "trainable.safetensors"
RUN = "run.json"
STATE = "trainer_state.json"  # transformers writes it last
ARCHIVES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")  # torch writes zip files
FINISHED = "finished"
LOG = "log.json"


def save_trainable(network: nn.Module, folder: Path) -> None:
    """Write the trained tensors of a network."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {name: p.detach().contiguous().cpu() for name, p in trainable(network).items()}
    save_file(tensors, folder / WEIGHTS)


def load_trainable(network: nn.Module, folder: Path) -> None:
    """Put saved tensors back in place."""
    own = trainable(network)
    saved = load_file(folder / WEIGHTS)
    if own.keys() != saved.keys():
        raise SettingsError(f"{folder} was written by another adapter; choose another output folder, or resume=False")
    for name, parameter in own.items():
        parameter.data.copy_(saved[name])


def digest(network: nn.Module) -> str:
    """Hash of the trained tensors of a network."""
    content = hashlib.sha256()
    for name, parameter in sorted(trainable(network).items()):
        content.update(name.encode())
        content.update(parameter.detach().float().cpu().numpy().tobytes())
    return content.hexdigest()


def last_complete(output: Path) -> Path | None:
    """The newest checkpoint that was written to its end; broken ones are removed."""
    numbered = [p for p in output.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    for folder in sorted(numbered, key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        if _is_complete(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _is_complete(folder: Path) -> bool:
    try:
        json.loads((folder / STATE).read_text())
        with safe_open(folder / WEIGHTS, "pt") as weights:
            return bool(weights.keys()) and all(zipfile.is_zipfile(folder / name) for name in ARCHIVES)
    except (OSError, ValueError, SafetensorError):
        return False


def claim(output: Path, run: Mapping[str, Any], resume: bool) -> None:
    """Raises SettingsError where another run lives in `output`, and names what differs. Writes nothing."""
    mark = output / RUN
    if not mark.is_file() and any(output.glob("checkpoint-*")):
        raise SettingsError(f"{output} holds checkpoints that are not ours (no {RUN}); choose another output folder")
    if not mark.is_file() or not resume:
        return
    told, before = json.loads(json.dumps(run)), _read_run(mark)
    different = sorted(name for name in told.keys() | before.keys() if told.get(name) != before.get(name))
    if before and different:
        raise SettingsError(
            f"{output} holds checkpoints of another run; it differs in {', '.join(different)}. Choose another "
            f"output folder, or start over in this one with Settings(resume=False)"
        )


def make_own(output: Path, run: Mapping[str, Any], resume: bool) -> Path | None:
    """Make `output` this run's own, after `claim`; gives the checkpoint to go on from."""
    mark = output / RUN
    if mark.is_file() and resume and _read_run(mark):
        return last_complete(output)
    for folder in (*output.glob("checkpoint-*"), output / FINISHED):
        shutil.rmtree(folder, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(run, indent=1))
    return None


def keep_finished(network: nn.Module, output: Path, lines: Sequence[Mapping[str, Any]], seconds: float) -> None:
    """Keep the result of a run that came to its end, so that the same call again is done at once."""
    half = output / f"{FINISHED}.half"
    save_trainable(network, half)
    (half / LOG).write_text(json.dumps({"lines": list(lines), "seconds": seconds}))
    half.rename(output / FINISHED)


def finished(network: nn.Module, output: Path) -> tuple[list[dict[str, Any]], float] | None:
    """Log and seconds of a run that came to its end, its tensors put in place; none where it did not."""
    folder = output / FINISHED
    try:
        told = json.loads((folder / LOG).read_text())
        lines, seconds = [dict(line) for line in told["lines"]], float(told["seconds"])
        load_trainable(network, folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return lines, seconds


def _read_run(mark: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(mark.read_text()))
    except ValueError:
        return {}  # killed while it was written, so before any checkpoint
