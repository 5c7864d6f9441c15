"""Checkpoints: only what is trained, whole or skipped, and only of the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import SettingsError
from condition.training.checkpoints import (
    ARCHIVES,
    FINISHED,
    RUN,
    STATE,
    WEIGHTS,
    claim,
    digest,
    finished,
    keep_finished,
    last_complete,
    load_trainable,
    make_own,
    save_trainable,
)
from tests.conftest import Tiny


@pytest.fixture
def network(tiny: Tiny) -> torch.nn.Module:
    return LoRA(rank=2).attach(tiny("llama"))


def checkpoint(network: torch.nn.Module, output: Path, step: int) -> Path:
    folder = output / f"checkpoint-{step}"
    save_trainable(network, folder)
    for name in ARCHIVES:
        torch.save({"a": torch.zeros(1000)}, folder / name)
    (folder / STATE).write_text("{}")
    return folder


def test_there_and_back(network: torch.nn.Module, tmp_path: Path) -> None:
    save_trainable(network, tmp_path)
    before, mark = {n: p.detach().clone() for n, p in trainable(network).items()}, digest(network)
    for parameter in trainable(network).values():
        parameter.data.add_(1)
    assert digest(network) != mark
    load_trainable(network, tmp_path)
    assert digest(network) == mark
    assert all(torch.equal(p, before[n]) for n, p in trainable(network).items())


def test_another_adapters_tensors(network: torch.nn.Module, tiny: Tiny, tmp_path: Path) -> None:
    save_trainable(network, tmp_path)
    other = LoRA(rank=2, targets=["q_proj"]).attach(tiny("llama"))
    with pytest.raises(SettingsError, match="written by another adapter"):
        load_trainable(other, tmp_path)


def test_the_newest_by_number(network: torch.nn.Module, tmp_path: Path) -> None:
    for step in (9, 10, 2):
        checkpoint(network, tmp_path, step)
    (tmp_path / "checkpoint-notes").mkdir()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-10"
    assert last_complete(tmp_path / "nothing") is None


@pytest.mark.parametrize("name", [WEIGHTS, STATE, *ARCHIVES])
@pytest.mark.parametrize("how", ["deleted", "cut off", "empty"])
def test_a_broken_one_is_skipped(network: torch.nn.Module, tmp_path: Path, name: str, how: str) -> None:
    whole, broken = checkpoint(network, tmp_path, 1), checkpoint(network, tmp_path, 2)
    file = broken / name
    content = file.read_bytes()
    if how == "deleted":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if how == "cut off" else b"")
    assert last_complete(tmp_path) == whole
    assert not broken.exists()


def test_a_run_is_claimed_once(network: torch.nn.Module, tmp_path: Path) -> None:
    output = tmp_path / "run"
    claim(output, {"seed": 0}, True)
    assert not output.exists()
    assert make_own(output, {"seed": 0}, True) is None
    kept = checkpoint(network, output, 3)
    claim(output, {"seed": 0}, True)
    assert make_own(output, {"seed": 0}, True) == kept
    with pytest.raises(SettingsError, match=r"differs in learning_rate, seed\. Choose another output folder"):
        claim(output, {"seed": 1, "learning_rate": 3}, True)
    assert kept.exists()
    claim(output, {"seed": 1}, False)
    assert make_own(output, {"seed": 1}, False) is None
    assert not kept.exists()


def test_a_mark_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text('{"seed": ')
    claim(tmp_path, {"seed": 0}, True)
    assert make_own(tmp_path, {"seed": 0}, True) is None
    claim(tmp_path, {"seed": 0}, True)
    with pytest.raises(SettingsError, match="differs in seed"):
        claim(tmp_path, {"seed": 1}, True)


def test_a_finished_run(network: torch.nn.Module, tmp_path: Path) -> None:
    assert finished(network, tmp_path) is None
    keep_finished(network, tmp_path, [{"step": 1, "loss": 2.0}], 1.5)
    mark = digest(network)
    for parameter in trainable(network).values():
        parameter.data.add_(1)
    assert finished(network, tmp_path) == ([{"step": 1, "loss": 2.0}], 1.5)
    assert digest(network) == mark
    (tmp_path / FINISHED / WEIGHTS).write_bytes(b"")
    assert finished(network, tmp_path) is None
    keep_finished(network, tmp_path, [], 0.0)
    assert finished(network, tmp_path) == ([], 0.0)
