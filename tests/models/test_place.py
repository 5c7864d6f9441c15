"""The exchange of a saved model by a new one, and what is left where it is cut off."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from condition.errors import ModelError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.place import left_behind, replaced
from tests.training.test_sft import fit


@pytest.fixture
def tuned(tiny_folder: Path) -> LocalModel:
    return fit(load(tiny_folder), max_steps=1)


def test_the_old_model_comes_back_where_the_new_one_can_not_take_its_place(
    tuned: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    tuned.save_pretrained(folder)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == folder and self.name != "was":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(
        ModelError, match=r"can't write .*No space left .* MB are free there, at least 1 MB are needed\."
    ):
        tuned.save_pretrained(folder)
    whole = tuned.merge()
    megabytes = math.ceil(sum(p.nbytes for p in whole.network.parameters()) / 1e6)
    with pytest.raises(ModelError, match=rf" free there, at least {megabytes} MB are needed\. Make room"):
        whole.save_pretrained(folder)
    monkeypatch.undo()
    assert load(folder).name == tuned.name


def test_ctrl_c_between_the_renames_leaves_the_old_model(
    tuned: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    tuned.save_pretrained(folder)
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if target.name == "was":
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        tuned.save_pretrained(folder)
    monkeypatch.undo()
    assert load(folder).name == tuned.name


KILLED = """
import os, signal, sys
from pathlib import Path
from condition.models.place import replaced

rename = Path.rename

def kill(self, target):
    rename(self, target)
    if target.name == "was":
        os.kill(os.getpid(), signal.SIGKILL)

Path.rename = kill
with replaced(Path(sys.argv[1])) as half:
    (half / "new").write_text("x")
"""


def test_a_kill_between_the_renames_is_explained(tuned: LocalModel, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    tuned.save_pretrained(folder)
    assert left_behind(folder) is None
    ran = subprocess.run([sys.executable, "-c", KILLED, str(folder)], env={**os.environ}, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(ModelError, match=r"saving over it was cut off; .* is whole, in .*/\.saved-old-\w+/was: move"):
        load(folder)
    was = left_behind(folder)
    assert was is not None
    assert load(was).name == tuned.name
    was.rename(folder)
    assert load(folder).name == tuned.name


def test_the_newest_of_several_is_meant(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        (tmp_path / f".saved-old-{name}" / "was").mkdir(parents=True)
        if name != "c":  # holds no model
            (tmp_path / f".saved-old-{name}" / "was" / "condition.json").write_text("{}")
        os.utime(tmp_path / f".saved-old-{name}", (number, number))
    assert left_behind(tmp_path / "saved") == tmp_path / ".saved-old-b" / "was"
    assert left_behind(tmp_path / "other") is None


def test_an_error_of_our_own_is_not_laid_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), replaced(tmp_path / "saved"):
        raise ValueError("ours")
    assert list(tmp_path.iterdir()) == []
