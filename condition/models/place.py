"""The place where a model is saved: checked before any work, written beside it, and exchanged when all is written."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from condition.errors import ModelError
from condition.models.contract import FILE


def check_writable(folder: Path) -> None:
    """Raises ModelError where a folder can't be made or written, before any work is done."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ModelError(f"can't write to {folder}: {error}. Choose another folder") from error


def check_free(folder: Path) -> None:
    """Raises ModelError where a model could not be saved to a folder."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).is_file()):
        raise ModelError(f"{folder} holds something that is not a saved model; choose another folder")
    check_writable(folder)


def unwritten(path: Path, error: Exception, needed: int | None = None) -> str:
    """What to say of a file or folder that could not be written: how much is free there, and how much is `needed`.

    `needed` is bytes, at least.
    """
    free = shutil.disk_usage(path.parent).free // 1_000_000 if path.parent.is_dir() else 0
    said = str(error).partition("\n")[0].rstrip(".")
    more = "" if not needed else f", at least {math.ceil(needed / 1_000_000):,} MB are needed"
    return (
        f"can't write {path}: {said}. {free:,} MB are free there{more}. "
        "Make room and call again, or choose another folder"
    )


@contextmanager
def replaced(folder: Path, needed: int | None = None) -> Iterator[Path]:
    """A folder to write to that takes the target's place when all is well, and vanishes when not.

    `needed` is how many bytes will be written, at least, for what is said of a full disk.
    What others have put beside a saved model stays there.
    """
    folder = folder.resolve()
    check_free(folder)
    half = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        yield half
        for path in (half, *half.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # some writers leave files that only their owner may read
        if folder.exists():
            _exchange(folder, half)
        else:
            half.rename(folder)
    except Exception as error:
        # A full disk comes as an error of whichever library was writing, safetensors' and tokenizers' among them.
        if not isinstance(error, OSError) and "No space left" not in str(error):
            raise
        raise ModelError(unwritten(folder, error, needed)) from error
    finally:
        if half is not None:
            shutil.rmtree(half, ignore_errors=True)


def left_behind(folder: Path) -> Path | None:
    """Where a saved model lies whose exchange was cut off in the middle, as by a kill: one instant of two renames."""
    if folder.exists():
        return None
    found = [was for was in folder.parent.glob(f"{_old(folder)}*/was") if (was / FILE).is_file()]
    return max(found, key=lambda was: was.parent.stat().st_mtime, default=None)


def _exchange(folder: Path, new: Path) -> None:
    """Put a new folder in the place of a saved one."""
    kept: list[str] = []
    with suppress(OSError, ValueError, KeyError, TypeError):
        ours = {FILE, *json.loads((folder / FILE).read_text(encoding="utf-8"))["files"]}
        kept = [path.name for path in folder.iterdir() if path.name not in {name.partition("/")[0] for name in ours}]
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_old(folder))) / "was"
    try:
        folder.rename(old)
        new.rename(folder)
    except BaseException:  # Ctrl-C too
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    for name in kept:
        if not (folder / name).exists():
            (old / name).rename(folder / name)
    shutil.rmtree(old.parent)


def _old(folder: Path) -> str:
    return f".{folder.name}-old-"


def here(name: str | Path | None) -> Path | None:
    """What a name stands for on this machine, if anything. A hub id, or nonsense, is no path."""
    try:
        path = None if name is None else Path(name).expanduser()
        return path if path is not None and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def is_same(name: str | Path, folder: Path) -> bool:
    """Whether a name stands for a folder, by whichever way through links."""
    found = here(name)
    return found is not None and folder.exists() and found.samefile(folder)


def check_not_cut_off(name: str | Path) -> None:
    """Raises ModelError where a save was cut off between taking the old model away and putting the new one there."""
    try:
        left = left_behind(Path(name).expanduser())
    except (OSError, ValueError, RuntimeError):  # a hub id, or nonsense, is no path
        return
    if left is not None:
        raise ModelError(
            f"{name} is not there, because saving over it was cut off; the model that was there is whole, in {left}: "
            f"move that folder to {name}, or load it from where it is and save it again"
        )
