"""The output folder of a run: whose it is, what of it is gone on with, and what may be deleted.

output/run.json             what makes the run the same run
output/run.lock             held by the process that trains here
output/checkpoint-<step>/   see `checkpoints`
output/finished/            trained tensors and log of a run that came to its end

Only what a training wrote is ever deleted: a folder that holds anything else is refused.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from condition.errors import ModelError, SettingsError
from condition.models.contract import RUN
from condition.training.archives import ARCHIVES, DEEPSPEED_WRITES
from condition.training.checkpoints import (
    OVER,
    PROCESSES,
    STAGE,
    STATE,
    WEIGHTS,
    is_complete,
    load_trainable,
    save_trainable,
    size,
    writing,
)
from condition.training.processes import is_first, number_of_processes
from condition.training.runs import differences, more_steps
from condition.training.sharded import DEEPSPEED, zero_stage
from condition.training.sums import sum_of

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("condition")

FINISHED = "finished"
HALF = f"{FINISHED}.half"
LOG = "log.json"
LOCK = "run.lock"
KEYS = frozenset({"trainer", "base", "adapter", "data"})
"""What each of our runs says of itself."""
_WRITTEN = (
    *(WEIGHTS, sum_of(Path(WEIGHTS)).name, STATE, LOG, *ARCHIVES, "scaler.pt", "rng_state_*.pth", ".*"),
    *DEEPSPEED_WRITES,
)
"""What is in our folders; a hidden file is a file browser's or a file system's."""
_ELSEWHERE = "choose another output folder"


def last_complete(output: Path) -> Path | None:
    """The newest checkpoint that was written to its end; broken ones are removed."""
    numbered = [folder for folder in output.glob("checkpoint-*") if _step(folder) is not None]
    for folder in sorted(numbered, key=lambda p: _step(p) or 0, reverse=True):
        if is_complete(folder):
            return folder
        _remove(folder)
    return None


def any_complete(output: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return any(is_complete(folder) for folder in output.glob("checkpoint-*"))


def _worth_keeping(output: Path) -> bool:
    """Whether there is more than the mark of a run that got nowhere."""
    return any_complete(output) or (output / FINISHED).exists()


def claim(output: Path, run: Mapping[str, Any], resume: bool) -> None:
    """Raises SettingsError where another run or anything that is not ours lives in `output`. Writes nothing."""
    before = _run_in(output, resume)
    for part in _parts(output):
        if before is None:
            raise SettingsError(f"{output} holds {part.name!r}, which is not ours (no {RUN}); {_ELSEWHERE}")
        if strange := _strange(part):
            raise SettingsError(
                f"{strange} was not written by a training, and would be lost where training deletes old checkpoints: "
                f"move it away, or {_ELSEWHERE}"
            )
    if not before or not resume or not _worth_keeping(output):
        return
    different = differences(before, _by_processes(run))
    if different:
        raise SettingsError(
            f"{output} holds checkpoints of another run; it differs in {', '.join(different)}. Choose another "
            f"output folder, or {OVER}{more_steps(different)}"
        )


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make a folder and hold it while it is trained in. Raises SettingsError where another process does.

    The kernel lets go however a process ends. Of processes that train together the first one holds it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / LOCK).open("a")
    except OSError as error:
        raise ModelError(f"can't write to {output}: {error}. Choose another folder") from error
    with file:
        if sys.platform != "win32" and is_first():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SettingsError(
                    f"another process trains in {output}: wait until it ends, or {_ELSEWHERE}"
                ) from error
            except OSError:
                pass  # a file system without locks
        yield


def make_own(output: Path, run: Mapping[str, Any], resume: bool) -> Path | None:
    """Make `output` this run's own; gives the checkpoint to go on from. Raises as `claim` does."""
    claim(output, run, resume)  # again, for what happened before the folder was locked
    mark, half = output / RUN, output / f"{RUN}.half"
    if not is_first():
        return last_complete(output)  # the first process has made it ours
    if resume and mark.is_file() and _worth_keeping(output):
        return last_complete(output)
    if not resume and _worth_keeping(output) and not differences(_run_in(output, resume) or {}, _by_processes(run)):
        log.warning(
            "resume=False deletes what this same run has trained in %s, and it starts over: leave it out to go on",
            output,
        )
    for part in _parts(output):
        _remove(part)
    with writing(half):
        output.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(_by_processes(run), indent=1))
        half.replace(mark)
    return None


@contextmanager
def kept_or_gone(output: Path) -> Iterator[None]:
    """A run that fails before its first checkpoint leaves nothing behind."""
    try:
        yield
    except BaseException:
        if is_first() and not _worth_keeping(output):
            for part in _parts(output):
                _remove(part)
            for name in (RUN, LOCK):
                (output / name).unlink(missing_ok=True)
        raise


def keep_finished(network: nn.Module, output: Path, lines: Sequence[Mapping[str, Any]], seconds: float) -> None:
    """Keep the result of a run that came to its end, so that the same call again is done at once."""
    half = output / HALF
    with writing(half, size(network)):
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
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ModelError):
        _remove(folder)
        return None
    return lines, seconds


def _by_processes(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """With how many processes there are, and what DeepSpeed shares out among them: nobody else has their states."""
    number, stage = number_of_processes(), zero_stage()
    beside = {PROCESSES: number if number > 1 else None, STAGE: stage}
    return {**run, **{name: told for name, told in beside.items() if told is not None}}


def _run_in(output: Path, resume: bool) -> dict[str, Any] | None:
    """What the run in a folder says of itself. None where there is none; nothing where it can't be read."""
    mark = output / RUN
    if not mark.exists():
        return None
    try:
        told = json.loads(mark.read_text())
    except (OSError, ValueError) as error:
        if not resume:
            return {}
        raise SettingsError(
            f"{mark} can't be read ({error}), so nobody knows which run lives there: "
            f"start over with Settings(resume=False), or {_ELSEWHERE}"
        ) from error
    if not isinstance(told, dict) or not told.keys() >= KEYS:
        raise SettingsError(f"{mark} was not written by a training; {_ELSEWHERE}")
    return told


def _parts(output: Path) -> list[Path]:
    """What training writes to, and deletes, beside the mark."""
    checkpoints = [p for p in output.glob("checkpoint-*") if p.is_dir() or _step(p) is not None]
    return sorted(checkpoints) + [p for p in (output / FINISHED, output / HALF) if p.exists()]


def _strange(part: Path) -> Path | None:
    """What in a checkpoint's place, if anything, training did not write."""
    if _step(part) is None and part.name not in (FINISHED, HALF):
        return part
    try:
        inside = sorted(part.iterdir()) + sorted((part / DEEPSPEED).glob("*"))
    except FileNotFoundError:
        return None  # another process trains, and just removed it
    except OSError:
        return part
    return next((p for p in inside if not any(fnmatch(p.name, known) for known in _WRITTEN)), None)


def _step(folder: Path) -> int | None:
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else None


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ModelError(f"can't remove {folder}: {error}. Remove it by hand, or {_ELSEWHERE}") from error
