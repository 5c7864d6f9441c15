"""What torch writes into a checkpoint beside trained tensors: optimizer, schedule, random states.

DeepSpeed writes the optimizer itself: each process its share, into a folder of its own.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from condition.training.sharded import DEEPSPEED, OPTIMIZER, SCHEDULER

RANDOM = "rng_state.pth"
ARCHIVES = (OPTIMIZER, SCHEDULER, RANDOM)  # torch writes zip files
DEEPSPEED_WRITES = (DEEPSPEED, "*_states.pt", "zero_to_*.py")
"""The folder, what is in it, and scripts that DeepSpeed lays beside."""


def archives(processes: int, stage: int | None) -> list[str]:
    """What is in a checkpoint of several processes, as patterns; `stage` is DeepSpeed's, None without it."""
    random = [RANDOM] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    if stage is None:
        return [OPTIMIZER, SCHEDULER, *random]
    shares = [f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(processes if stage else 0)]
    return [*(f"{DEEPSPEED}/{name}" for name in ("mp_rank_00_model_states.pt", *shares)), SCHEDULER, *random]


def is_there(folder: Path, pattern: str) -> bool:
    """Whether there are files of a pattern, and all can be read to their end."""
    found = list(folder.glob(pattern))
    return bool(found) and all(_is_whole(archive) for archive in found)


def _is_whole(archive: Path) -> bool:
    """Whether what torch wrote can be read to its end: its parts carry sums."""
    try:
        with zipfile.ZipFile(archive) as parts:
            return parts.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
