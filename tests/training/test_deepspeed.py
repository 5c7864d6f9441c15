"""DeepSpeed under `fit`: what is refused, what a checkpoint holds, and a run that was stopped.

accelerate starts DeepSpeed on GPUs only, and it is no dependency. Where it is installed processes on the CPU share out
gradients and optimizer here, with everything behind accelerate's choice (`on_processors`) as it is:

    python -m pytest tests/training/test_deepspeed.py -rs
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from safetensors.torch import load_file

from condition.adapters.adalora import AdaLoRA
from condition.adapters.lora import LoRA
from condition.adapters.mixed import Mixed
from condition.adapters.side import LadderSide
from condition.adapters.soft_prompts import PromptTuning
from condition.adapters.stack import Stack
from condition.errors import SettingsError
from condition.training.checkpoints import STATE, is_complete, save_trainable
from condition.training.output import claim, last_complete, make_own
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.training.sharded import check_launcher
from tests.conftest import Tiny, TinyModel
from tests.training.launching import TWO, run_launched
from tests.training.test_fit import ROWS
from tests.training.test_launch_files import launched
from tests.training.test_sharded import assert_alike

ON: dict[str, str] = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
SCRIPT = """
import sys
from tests.training.test_deepspeed import on_processors
from tests.training.test_sharded import work
work("cpu", sys.argv[1], sys.argv[2:], on_processors)
"""
MODEL, SHARES = "mp_rank_00_model_states.pt", [f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1)]
installed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


def on_processors() -> None:
    """accelerate takes DeepSpeed for GPUs only; let it take it for processors too, without a kernel of its own."""
    import deepspeed.comm.torch  # noqa: PLC0415 - no dependency

    deepspeed.comm.torch.build_shm_op = lambda: None  # sends through shared memory; to compile it takes minutes
    start = AcceleratorState.__init__

    def started(self: AcceleratorState, *given: Any, **options: Any) -> None:
        start(self, *given, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
            self.deepspeed_plugins = options["deepspeed_plugin"]
            self.deepspeed_plugins.set_mixed_precision("no")
            self.deepspeed_plugins.select(_from_accelerator_state=True)

    AcceleratorState.__init__ = started


def run(folder: Path, processes: int, stage: int, names: list[str]) -> None:
    """Train by the launch file, on processors."""
    args = launched("deepspeed", "--zero_stage", str(stage))
    args.deepspeed_fields_from_accelerate_config = ""
    _, env = prepare_deepspeed_cmd_env(args)
    env |= {"ACCELERATE_USE_CPU": "true", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    run_launched((*TWO[:-1], str(processes)), env, folder, SCRIPT, [str(folder), *names])


def killed_while_writing(output: Path, share: str) -> Path:
    """As if a run had been killed while a process wrote its share into the last checkpoint; gives the one before."""
    *_, earlier, last = sorted(output.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    half = last / "deepspeed" / share
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    shutil.rmtree(output / "finished")
    assert is_complete(earlier)
    assert not is_complete(last)
    return earlier


@installed
@pytest.mark.parametrize(
    ("processes", "stage", "names"), [(2, 2, ["lora", "full", "pairs", "principal"]), (1, 1, ["lora"])]
)
def test_what_one_process_gives_and_resumed_to_the_bit(
    tmp_path: Path, processes: int, stage: int, names: list[str]
) -> None:
    run(tmp_path, processes, stage, names)
    for name in names:
        assert_alike(name, "cpu", tmp_path, ranks=processes)
    resumed = [name for name in ("lora", "full") if name in names]
    before = {name: load_file(tmp_path / f"{name}-0") for name in resumed}
    kept = [killed_while_writing(tmp_path / name, SHARES[processes - 1]) / STATE for name in resumed]
    written = [state.stat().st_mtime_ns for state in kept]
    run(tmp_path, processes, stage, resumed)
    assert [state.stat().st_mtime_ns for state in kept] == written  # gone on from, not written again
    for name in resumed:
        for rank in range(processes):
            after = load_file(tmp_path / f"{name}-{rank}")
            assert all(torch.equal(after[key], weight) for key, weight in before[name].items())


def checkpoint(network: torch.nn.Module, output: Path, step: int) -> Path:
    """As two processes write it under ZeRO-2."""
    folder = output / f"checkpoint-{step}"
    save_trainable(network, folder)
    (folder / "deepspeed").mkdir()
    for name in (MODEL, *SHARES):
        torch.save({"a": torch.zeros(1000)}, folder / "deepspeed" / name)
    for name in ("scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"):
        torch.save({"a": torch.zeros(1000)}, folder / name)
    (folder / "zero_to_fp32.py").write_text("")
    (folder / STATE).write_text("{}")
    return folder


RUN = {"trainer": "SFTTrainer", "base": "a", "adapter": {}, "data": "b"}


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An output folder that the first of two processes holds, started with DeepSpeed."""
    for name, value in (ON | {"WORLD_SIZE": "2", "RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    make_own(tmp_path, RUN, resume=True)
    return tmp_path


@pytest.mark.parametrize("name", [MODEL, *SHARES])
@pytest.mark.parametrize("how", ["deleted", "cut off", "torn"])
def test_a_broken_one_is_skipped(tiny: Tiny, two: Path, name: str, how: str) -> None:
    network = LoRA(rank=2).attach(tiny("llama"))
    whole, broken = checkpoint(network, two, 1), checkpoint(network, two, 2)
    claim(two, RUN, resume=True)
    file = broken / "deepspeed" / name
    content = file.read_bytes()
    if how == "deleted":
        file.unlink()
    else:
        half = len(content) // 2
        file.write_bytes(content[:half] if how == "cut off" else bytes(half) + content[half:])
    assert last_complete(two) == whole
    assert not broken.exists()


def test_nobody_else_goes_on_with_it(tiny: Tiny, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = checkpoint(LoRA(rank=2).attach(tiny("llama")), two, 1)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    with pytest.raises(SettingsError, match="differs in zero_stage"):
        make_own(two, RUN, resume=True)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    with pytest.raises(SettingsError, match="differs in zero_stage"):
        make_own(two, RUN, resume=True)
    assert is_complete(kept)


def test_what_is_not_ours_stays(tiny: Tiny, two: Path) -> None:
    notes = checkpoint(LoRA(rank=2).attach(tiny("llama")), two, 1) / "deepspeed" / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(SettingsError, match=r"notes.txt was not written by a training"):
        make_own(two, RUN, resume=False)
    assert notes.exists()


@pytest.mark.parametrize(
    ("told", "options", "adapter", "said"),
    [
        ({"stage": 3}, {}, LoRA(), "ZeRO-3 shares out the weights.* use FSDP2"),
        ({"file": {"zero_optimization": {"stage": 3}}}, {}, LoRA(), "ZeRO-3 shares out the weights.* use FSDP2"),
        (
            {"file": {"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW"}}},
            {},
            LoRA(),
            "file says optimizer",
        ),
        ({"file": {}}, {}, LoRA(), "can't be read.* ZeRO"),
        ({}, {"at_once": 1}, LoRA(), "leave Settings.at_once out"),
        ({}, {"optimizer": "adafactor"}, LoRA(), "adafactor.* use 'adamw'"),
        ({}, {}, AdaLoRA(), "'adalora' reads gradients.* start without DeepSpeed"),
        ({}, {}, Stack((AdaLoRA(), PromptTuning(length=4))), "'adalora' reads gradients"),
        ({}, {}, LadderSide(), "single numbers: start without DeepSpeed"),
    ],
)
def test_what_does_not_fit_is_refused(
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    told: dict[str, Any],
    options: dict[str, Any],
    adapter: Any,
    said: str,
) -> None:
    for name, value in ON.items():
        monkeypatch.setenv(name, value)
    if "stage" in told:
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(told["stage"]))
    if "file" in told:
        (tmp_path / "zero.json").write_text(json.dumps(told["file"]))
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "zero.json"))
    output = tmp_path / "run"
    with pytest.raises(SettingsError, match=said):
        SFTTrainer(adapter=adapter, settings=Settings(output=output, **options)).fit(tiny_model(), ROWS, prompt="{q}")
    assert not output.exists()


@pytest.mark.parametrize("adapter", [LoRA(), Mixed(), Stack((LoRA(), PromptTuning(length=4)))])
def test_adapters_without_steps_of_their_own_are_not(monkeypatch: pytest.MonkeyPatch, adapter: Any) -> None:
    for name, value in ON.items():
        monkeypatch.setenv(name, value)
    check_launcher(Settings(), adapter, quantized=False, asks_between="watch")
