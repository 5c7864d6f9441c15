"""Checkpoints that hold only what is trained, and whether one is whole.

checkpoint-<step>/   trained tensors, optimizer (DeepSpeed's in a folder of its own), schedule, random states
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condition.adapters.attach import trainable, trained_state
from condition.errors import ModelError, SettingsError
from condition.models.contract import RUN
from condition.models.place import unwritten
from condition.training.archives import archives, is_there
from condition.training.processes import is_first, number_of_processes
from condition.training.sharded import put, whole, zero_stage
from condition.training.sums import check_sum, is_as_written, write_sum

WEIGHTS = "trainable.safetensors"
STATE = "trainer_state.json"  # transformers writes it last
PROCESSES = "processes"
STAGE = "zero_stage"
"""How a run says with how many processes it trains, and what DeepSpeed shares out among them."""
OVER = "start over in this one with Settings(resume=False), once: it deletes what was trained there"
"""What is advised where a folder holds another run."""


def save_trainable(network: nn.Module, folder: Path) -> None:
    """Write the trained tensors of a network, whole. Where they are shared out all processes have to ask."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in trained_state(network).items():
        found = whole(tensor.detach())
        if is_first():
            tensors[name] = found.contiguous().cpu()
    if is_first():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS)
        write_sum(folder / WEIGHTS)


def size(network: nn.Module) -> int:
    """Bytes of the trained tensors of a network."""
    return sum(tensor.nbytes for tensor in trained_state(network).values())


def load_trainable(network: nn.Module, folder: Path) -> None:
    """Put saved tensors back in place."""
    own = trained_state(network)
    check_sum(folder / WEIGHTS)
    saved = load_file(folder / WEIGHTS)
    if own.keys() != saved.keys():
        raise SettingsError(f"{folder} was written by another adapter; choose another output folder, or {OVER}")
    for name, parameter in own.items():
        put(parameter, saved[name])


def digest(network: nn.Module) -> str:
    """Hash of the trained tensors of a network."""
    content = hashlib.sha256()
    for name, parameter in sorted(trainable(network).items()):
        content.update(name.encode())
        content.update(parameter.detach().float().cpu().numpy().tobytes())
    return content.hexdigest()


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint was written to its end."""
    try:
        json.loads((folder / STATE).read_text())
        with safe_open(folder / WEIGHTS, "pt") as weights:
            whole = bool(weights.keys()) and all(is_there(folder, name) for name in _archives(folder.parent))
        return whole and is_as_written(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError):
        return False


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Raises ModelError for what could not be written to a file or folder, and removes the half of it.

    `needed`: how many bytes it takes, at least, where that is known.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # on a full disk torch raises a RuntimeError
        said = unwritten(path, error, needed)
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        raise ModelError(f"{said}; checkpoints written before are intact") from error


def _archives(output: Path) -> list[str]:
    """What torch writes into a checkpoint of the run in a folder."""
    try:
        told = json.loads((output / RUN).read_text())
        return archives(int(told.get(PROCESSES, 1)), told.get(STAGE))
    except (OSError, ValueError, AttributeError):
        return archives(number_of_processes(), zero_stage())
