"""How many rows fit into memory: a dry run of three steps on the longest rows, before anything is trained.

    one row, twice    what the network needs beside its rows; the first one pays for what is only allocated once
    two rows          what a row more needs

Peak memory grows with the tokens of a step, so two points give the line.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from condition.training.order import size_of
from condition.training.pieces import release
from condition.training.rows import Trained

SPARE = 0.8
"""Share of the free memory that is planned with."""


class Plan(NamedTuple):
    """What the dry run found, in bytes."""

    at_once: int
    """Rows that go through the network at once."""
    fixed: int
    """What a step needs whatever its rows."""
    a_row: int
    """What each of the longest rows needs."""
    free: int

    def __str__(self) -> str:
        return (
            f"{self.at_once} rows at once: a step needs {self.fixed / 1e6:,.0f} MB, and {self.a_row / 1e6:,.0f} MB for "
            f"each of the longest rows; {self.free / 1e6:,.0f} MB are free"
        )


def planned(
    rows: Sequence[Trained], step: Callable[[Sequence[Trained]], None], device: torch.device, most: int, beside: int
) -> Plan:
    """The plan for batches of `most` rows. `step` goes forward and backward over rows; `beside`: bytes kept free for
    what is not there yet, such as the optimizer's moments.
    """
    longest = sorted(rows, key=size_of)[-2:]
    free = max(0, free_bytes(device) - beside)
    step(longest[-1:])
    one = peak_of(lambda: step(longest[-1:]), device)
    two = peak_of(lambda: step(longest), device) if len(longest) == 2 and most > 1 else one
    a_row = max(0, two - one)
    fixed = max(0, one - a_row)
    fits = most if not a_row else int((free * SPARE - fixed) // a_row)
    return Plan(max(1, min(most, fits)), fixed, a_row, free)


def peak_of(work: Callable[[], None], device: torch.device) -> int:
    """Bytes that some work needs at its peak beyond what is held before; on the CPU those of the process."""
    release()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    before = _held_now()
    _reset_peak()
    work()
    return max(0, _peak() - before)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, or to this process."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    found = [_number("/proc/meminfo", "MemAvailable")]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdecimal():
        found.append(int(limit.read_text()) - int(used.read_text()))
    known = [number for number in found if number is not None]
    return min(known) if known else 1 << 62  # nothing is known here: only running out will tell


def _held_now() -> int:
    return _number("/proc/self/status", "VmRSS") or 0


def _peak() -> int:
    found = _number("/proc/self/status", "VmHWM")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> None:
    with suppress(OSError):  # where it can't be: the peak so far stands, and the plan is the more careful
        Path("/proc/self/clear_refs").write_text("5")


def _number(file: str, name: str) -> int | None:
    """Bytes under a name in a file of /proc."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
