"""Several processes that train together, as `accelerate launch` starts them: one folder, written by the first.

With one process, which is the usual case, nothing here does anything.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor

log = logging.getLogger("condition")


def number_of_processes() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def warn_alone() -> None:
    """Say where `accelerate launch` was asked for several processes and has started one, as it does on processors."""
    names = os.environ.keys()
    asked = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= names  # what it sets for several, also before one
    if asked and not {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"} & names:
        log.warning(
            "accelerate launch was asked for several processes and started one: each step reads the rows of one. "
            "On processors: ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 train.py"
        )


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
