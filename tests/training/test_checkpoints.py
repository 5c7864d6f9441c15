"""Checkpoints: only what is trained, whole or skipped, and only of the same run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import ModelError, SettingsError
from condition.models.contract import RUN
from condition.training.archives import ARCHIVES
from condition.training.checkpoints import STATE, WEIGHTS, digest, load_trainable, save_trainable
from condition.training.output import (
    FINISHED,
    claim,
    finished,
    keep_finished,
    last_complete,
    locked,
    make_own,
)
from condition.training.sums import sum_of
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
@pytest.mark.parametrize("how", ["deleted", "cut off", "empty", "torn"])
def test_a_broken_one_is_skipped(network: torch.nn.Module, tmp_path: Path, name: str, how: str) -> None:
    whole, broken = checkpoint(network, tmp_path, 1), checkpoint(network, tmp_path, 2)
    file = broken / name
    content = file.read_bytes()
    if how == "deleted":
        file.unlink()
    elif how == "torn":  # as long as it was, after a crash of the machine
        half = len(content) // 2
        file.write_bytes(bytes(half) + content[half:])
    else:
        file.write_bytes(content[: len(content) // 2] if how == "cut off" else b"")
    assert last_complete(tmp_path) == whole
    assert not broken.exists()


def flip(file: Path, place: int) -> None:
    """Another bit, as a disk or a memory gives back: the file's layout is whole, and so is every other number."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("place", [-1, -1000])
def test_a_bit_of_the_weights_that_has_flipped(network: torch.nn.Module, tmp_path: Path, place: int) -> None:
    whole, damaged = checkpoint(network, tmp_path, 1), checkpoint(network, tmp_path, 2)
    flip(damaged / WEIGHTS, place)
    assert load_file(damaged / WEIGHTS).keys() == trainable(network).keys()
    before = digest(network)
    told = f"{damaged / WEIGHTS} is damaged: .* remove {damaged}: the same call then goes on"
    with pytest.raises(ModelError, match=told):
        load_trainable(network, damaged)
    assert digest(network) == before
    assert last_complete(tmp_path) == whole
    assert not damaged.exists()
    keep_finished(network, tmp_path, [], 0.0)
    flip(tmp_path / FINISHED / WEIGHTS, place)
    assert finished(network, tmp_path) is None


def test_the_sum_is_one_that_other_programs_read(network: torch.nn.Module, tmp_path: Path) -> None:
    folder = checkpoint(network, tmp_path, 1)
    told = sum_of(folder / WEIGHTS).read_text()
    assert told == f"{hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()}  {WEIGHTS}\n"
    flip(sum_of(folder / WEIGHTS), 3)
    assert last_complete(tmp_path) is None


def test_a_checkpoint_of_before_there_were_sums(network: torch.nn.Module, tmp_path: Path) -> None:
    folder = checkpoint(network, tmp_path, 1)
    sum_of(folder / WEIGHTS).unlink()
    assert last_complete(tmp_path) == folder
    load_trainable(network, folder)


RUN_ONE = {"trainer": "SFTTrainer", "base": "a", "adapter": {}, "data": "b", "seed": 0}


def test_a_run_is_claimed_once(network: torch.nn.Module, tmp_path: Path) -> None:
    output = tmp_path / "run"
    claim(output, RUN_ONE, True)
    assert not output.exists()
    assert make_own(output, RUN_ONE, True) is None
    kept = checkpoint(network, output, 3)
    claim(output, RUN_ONE, True)
    assert make_own(output, RUN_ONE, True) == kept
    other = {**RUN_ONE, "seed": 1, "learning_rate": 3}
    for refuse in (claim, make_own):
        with pytest.raises(SettingsError, match=r"differs in learning_rate, seed\. Choose another output folder"):
            refuse(output, other, True)
    assert kept.exists()
    claim(output, other, False)
    assert kept.exists()
    assert make_own(output, other, False) is None
    assert not kept.exists()
    assert json.loads((output / RUN).read_text()) == other


def test_starting_over_is_told_as_what_it_is(
    network: torch.nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_own(tmp_path, RUN_ONE, False)
    assert not caplog.text  # nothing is lost
    checkpoint(network, tmp_path, 3)
    with pytest.raises(SettingsError, match=r"Settings\(resume=False\), once: it deletes what was trained there$"):
        claim(tmp_path, {**RUN_ONE, "seed": 1}, True)
    make_own(tmp_path, {**RUN_ONE, "seed": 1}, False)
    assert not caplog.text  # another run: that is what was asked for
    checkpoint(network, tmp_path, 3)
    make_own(tmp_path, {**RUN_ONE, "seed": 1}, False)
    assert f"resume=False deletes what this same run has trained in {tmp_path}" in caplog.text
    assert "leave it out to go on" in caplog.text


def test_another_number_of_processes_is_another_run(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    make_own(tmp_path, RUN_ONE, True)
    kept = checkpoint(network, tmp_path, 3)
    for rank in (0, 1):
        (kept / f"rng_state_{rank}.pth").write_bytes((kept / "rng_state.pth").read_bytes())
    (kept / "rng_state.pth").unlink()
    assert make_own(tmp_path, RUN_ONE, True) == kept
    for number in ("1", "3"):
        monkeypatch.setenv("WORLD_SIZE", number)
        for refuse in (claim, make_own):
            with pytest.raises(SettingsError, match=r"differs in processes\. Choose another output folder"):
                refuse(tmp_path, RUN_ONE, True)
    assert kept.exists()


def test_a_mark_that_was_cut_off(network: torch.nn.Module, tmp_path: Path) -> None:
    kept = checkpoint(network, tmp_path, 3)
    (tmp_path / RUN).write_text(json.dumps(RUN_ONE)[:30])
    with pytest.raises(SettingsError, match=r"run.json can't be read .*start over with Settings\(resume=False\), or"):
        make_own(tmp_path, RUN_ONE, True)
    assert kept.exists()
    assert make_own(tmp_path, RUN_ONE, False) is None
    assert not kept.exists()
    assert make_own(tmp_path, RUN_ONE, True) is None


def test_a_mark_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, text: str) -> None:
        self.write_bytes(text[: len(text) // 2].encode())
        raise KeyboardInterrupt

    make_own(tmp_path, RUN_ONE, True)
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        make_own(tmp_path, {**RUN_ONE, "seed": 1}, False)
    assert json.loads((tmp_path / RUN).read_text()) == RUN_ONE


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("told", ["[1]", "7", "null", '{"name": "the experiment"}'])
def test_a_mark_of_somebody_else(network: torch.nn.Module, tmp_path: Path, told: str, resume: bool) -> None:
    kept = checkpoint(network, tmp_path, 3)
    (tmp_path / RUN).write_text(told)
    with pytest.raises(SettingsError, match=r"run.json was not written by a training; choose another output folder"):
        make_own(tmp_path, RUN_ONE, resume)
    assert kept.exists()
    assert (tmp_path / RUN).read_text() == told


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("file", ["finished/thesis.txt", "checkpoint-3/model.safetensors", "checkpoint-old/x.txt"])
def test_what_is_not_ours_is_never_deleted(tmp_path: Path, file: str, marked: bool, resume: bool) -> None:
    if marked:
        make_own(tmp_path, RUN_ONE, True)
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("years of work")
    with pytest.raises(SettingsError, match="choose another output folder"):
        make_own(tmp_path, RUN_ONE, resume)
    assert (tmp_path / file).read_text() == "years of work"


def test_what_lies_beside_is_left_alone(network: torch.nn.Module, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "checkpoint-notes.txt").write_text("more")
    make_own(tmp_path, RUN_ONE, True)
    (checkpoint(network, tmp_path, 3) / ".DS_Store").write_text("")  # a file browser's
    make_own(tmp_path, RUN_ONE, False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-notes.txt", RUN, "thesis.txt"]


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    output = tmp_path / "run"
    with locked(output):
        with pytest.raises(SettingsError, match=r"another process trains in .*run: wait until it ends, or choose"):
            locked(output).__enter__()
        with monkeypatch.context() as patch:
            patch.setenv("RANK", "1")  # trains together with the one that holds it
            with locked(output):
                pass
    with locked(output):
        pass


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("IoError"), RuntimeError("x")]
)
def test_what_can_not_be_written(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(tensors: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr("condition.training.checkpoints.save_file", full)
    with pytest.raises(
        ModelError, match=r"can't write .*finished\.half: .* MB are free there, at least \d+ MB are needed\. Make room"
    ):
        keep_finished(network, tmp_path, [], 0.0)
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_of_every_tensor_by_name() -> None:
    zeros, ones = (torch.nn.Parameter(torch.full((2,), value)) for value in (0.0, 1.0))

    def mark(**parameters: torch.nn.Parameter) -> str:
        module = torch.nn.Module()
        for name, parameter in parameters.items():
            module.register_parameter(name, parameter)
        return digest(module)

    before = mark(a=zeros, b=ones)
    assert mark(b=ones, a=zeros) == before
    assert mark(a=ones, b=zeros) != before
    for parameter in (zeros, ones):
        parameter.data[1] += 1
        assert mark(a=zeros, b=ones) != before
        parameter.data[1] -= 1
    assert mark(a=zeros, b=ones) == before


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
