"""Checkpoints that hold only what is trained, and finding the last one that is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
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


def last_complete(output: Path) -> Path | None:
    """The newest checkpoint that was written to its end; broken ones are removed."""
    found = sorted(output.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    for folder in found:
        if _is_complete(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _is_complete(folder: Path) -> bool:
    try:
        json.loads((folder / STATE).read_text())
        with safe_open(folder / WEIGHTS, "pt") as weights:
            return bool(weights.keys()) and (folder / "optimizer.pt").is_file()
    except (OSError, json.JSONDecodeError, SafetensorError):
        return False


def claim(output: Path, run: Mapping[str, Any], resume: bool) -> Path | None:
    """Make `output` this run's own; gives the checkpoint to go on from.

    Raises SettingsError where another run lives there, and names what differs.
    """
    told = json.loads(json.dumps(run))
    mark = output / RUN
    if mark.is_file() and resume:
        before = _read_run(mark)
        different = sorted(name for name in told.keys() | before.keys() if told.get(name) != before.get(name))
        if different:
            raise SettingsError(
                f"{output} holds checkpoints of another run; it differs in {', '.join(different)}. Choose another "
                f"output folder, or start over in this one with Settings(resume=False)"
            )
        return last_complete(output)
    for folder in output.glob("checkpoint-*"):
        shutil.rmtree(folder)
    output.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(told, indent=1))
    return None


def _read_run(mark: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(mark.read_text()))
    except (json.JSONDecodeError, ValueError):
        return {}  # killed while it was written, so before any checkpoint
