"""What trackers are left with behind a training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from condition.training.trackers import own_run
from tests.conftest import TinyModel
from tests.training.test_sft import fit


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Weights & Biases, offline, in a folder of the test's own."""
    found = pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true", "PROJECT": "tests"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    found.teardown()  # it keeps the folder of the first run in a process
    yield found
    found.finish()
    found.teardown()


def test_weights_and_biases_offline(wandb: Any, tiny_model: TinyModel, tmp_path: Path) -> None:
    fit(tiny_model(), max_steps=2, report_to="wandb")
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_each_training_is_a_run_of_its_own(wandb: Any, tiny_model: TinyModel, tmp_path: Path) -> None:
    for _ in range(2):
        fit(tiny_model(), max_steps=1, report_to="wandb")
        assert wandb.run is None
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 2


def test_a_run_that_was_open_goes_on(wandb: Any, tiny_model: TinyModel) -> None:
    own = wandb.init()
    fit(tiny_model(), max_steps=1, report_to="wandb")
    assert wandb.run is own
    assert "train/loss" in dict(own.summary)


class Opened:
    """Weights & Biases, as far as it is asked."""

    def __init__(self) -> None:
        self.run: object = None
        self.codes: list[int] = []

    def finish(self, exit_code: int) -> None:
        self.run = None
        self.codes.append(exit_code)


def test_a_training_that_fails_is_a_run_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Opened()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def fail(error: type[BaseException]) -> None:
        with own_run(("wandb",)):
            fake.run = object()
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
    with own_run(("wandb",)):
        pass  # it opened none
    with own_run(("tensorboard",)):
        fake.run = object()
    assert fake.codes == [1, 1]
    assert fake.run is not None
