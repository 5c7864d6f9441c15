"""A sum beside a file of weights, by which a flipped bit is seen: numbers of any bits are numbers, and load.

trainable.safetensors.sha256     as `sha256sum -c` reads it
"""

from __future__ import annotations

from pathlib import Path

from condition.errors import ModelError
from condition.models.contract import sha256


def sum_of(file: Path) -> Path:
    """Where the sum of a file lies."""
    return file.with_name(f"{file.name}.sha256")


def write_sum(file: Path) -> None:
    """Write the sum of a file beside it."""
    sum_of(file).write_text(f"{sha256(file)}  {file.name}\n")


def is_as_written(file: Path) -> bool:
    """Whether a file has the sum beside it; True where there is none, as in checkpoints of before there were any.

    Raises OSError where one of the two can't be read.
    """
    beside = sum_of(file)
    return not beside.exists() or beside.read_text(errors="replace") == f"{sha256(file)}  {file.name}\n"


def check_sum(file: Path) -> None:
    """Raises ModelError where a file of a checkpoint is not what was written."""
    if not is_as_written(file):
        raise ModelError(
            f"{file} is damaged: its content has not the sum in {sum_of(file).name}. Put it back from a copy of yours, "
            f"or remove {file.parent}: the same call then goes on from what is whole"
        )
