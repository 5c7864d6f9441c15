"""Several processes that train together, as `accelerate launch` starts them: one folder, written by the first.

With one process, which is the usual case, nothing here does anything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor


def number_of_processes() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def together(device: torch.device) -> None:
    """Wait until every process is here."""
    if number_of_processes() > 1:
        _state(device).wait_for_everyone()


def summed(values: Tensor) -> Tensor:
    """Sums over all processes, the same in each. Every process has to ask, and as often."""
    if number_of_processes() == 1:
        return values
    _state(values.device)
    found: Tensor = reduce(values, "sum")
    return found


@contextmanager
def one_folder(output: str | Path | None, device: torch.device) -> Iterator[str]:
    """The output folder; where none is given a temporary one, the same for all processes."""
    if output is not None:
        yield str(output)
        return
    with tempfile.TemporaryDirectory() as own:
        if number_of_processes() == 1:
            yield own
            return
        _state(device)
        told = [own]
        broadcast_object_list(told, from_process=0)
        try:
            yield told[0]
        finally:
            together(device)  # the first one removes it


def _state(device: torch.device) -> PartialState:
    return PartialState(cpu=device.type == "cpu")
