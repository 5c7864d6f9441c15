"""FSDP2 and DeepSpeed under `fit`: the losses and the weights of one process that holds everything.

accelerate starts both on GPUs only. FSDP2 itself needs none: two processes on the CPU share out weights here, with
everything behind accelerate's choice (`on_processors`) as it is; `test_deepspeed.py` does so with DeepSpeed. What needs
a GPU runs where there is one, started by `accelerate launch` with the files of `examples/accelerate`:

    python -m pytest tests/training/test_sharded.py -rs
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file, save_file
from torch import nn

from condition.adapters.attach import trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning
from condition.adapters.lora import LoRA
from condition.errors import SettingsError
from condition.models.contract import Source, memory_fingerprint
from condition.models.load import load
from condition.models.local import LocalModel
from condition.training.kto import KTOTrainer
from condition.training.preference import DPOTrainer
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from tests.conftest import TinyModel, _tiny, _tiny_tokenizer
from tests.training.launching import TWO, run_launched
from tests.training.test_fit import ROWS
from tests.training.test_launch_files import FOLDER, launched
from tests.training.test_preference import HELD as PAIRS_HELD
from tests.training.test_preference import ROWS as PAIRS
from tests.training.test_processes import HELD

QUICK: dict[str, Any] = {"precision": "fp32", "log_every": 1, "warmup": 0.0, "learning_rate": 1e-3, "epochs": 2}
SFT: dict[str, Any] = {"data": ROWS, "validation": HELD, "prompt": "{q}"}
RUNS: dict[str, Any] = {
    "lora": (SFTTrainer, LoRA(rank=4), {"eval_every": 2}, SFT),
    "full": (SFTTrainer, FullFineTuning(), {"accumulation": 3, "checkpointing": True, "save_every": 1}, SFT),
    "principal": (SFTTrainer, LoRA(rank=4, initialisation="pissa"), {}, SFT),
    "pairs": (DPOTrainer, LoRA(rank=4), {"max_steps": 3}, SFT | {"data": PAIRS, "validation": PAIRS_HELD[:1]}),
    "narrow": (SFTTrainer, LoRA(rank=4), {"precision": "auto"}, SFT),
}
"""By name: a trainer, its adapter, settings and data. The last one has its base in bf16, and is for GPUs."""
CURVES = ("loss", "eval_loss", "eval_accuracy")
SCRIPT = "import sys; from tests.training.test_sharded import work; work(sys.argv[1], sys.argv[2], sys.argv[3:])"


def trained(name: str, device: str, batch: int, output: Path | None = None) -> tuple[LocalModel, LocalModel]:
    """The base and what a run made of it."""
    trainer, adapter, options, data = RUNS[name]
    network = _tiny("llama").to(device)
    if name == "narrow":
        network = network.bfloat16()
    source = Source(kind="memory", name="tiny llama", fingerprint=memory_fingerprint(network))
    base = LocalModel(network, _tiny_tokenizer(), source=source)
    settings = Settings(**{**QUICK, "batch_size": batch, "output": output, **options})
    return base, trainer(adapter=adapter, settings=settings).fit(base, **data)


def on_processors() -> None:
    """accelerate takes FSDP2 for GPUs only, by the kind of the processes; let it take it for processors too."""
    start = AcceleratorState.__init__

    def started(self: AcceleratorState, *given: Any, **options: Any) -> None:
        start(self, *given, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = FullyShardedDataParallelPlugin()

    AcceleratorState.__init__ = started


def work(device: str, folder: str, names: list[str], start: Callable[[], None] = on_processors) -> None:
    """What each process does; told in files, as it is started by a launcher."""
    if device == "cpu":
        start()
    for name in names:
        output = Path(folder) / name
        base, tuned = trained(name, device, 4 // int(os.environ["WORLD_SIZE"]), output)
        kept = memory_fingerprint(base.network) == base.source.fingerprint
        plain = all(type(p) in (nn.Parameter, torch.Tensor) for p in tuned.network.parameters())
        told = {
            "curves": [tuned.history.series(curve) for curve in CURVES],
            "base as it was": kept,
            "plain": plain and not any("FSDP" in type(m).__name__ for m in tuned.network.modules()),
            "says": tuned.generate(["What is 1?"])[0][0].text,
        }
        rank = os.environ["RANK"]
        (Path(folder) / f"{name}-{rank}.json").write_text(json.dumps(told))
        if name == "full" and rank == "0":
            tuned.save_pretrained(f"{output}-saved")
        learned = trainable(tuned.network).items()
        save_file({n: p.detach().cpu().clone().contiguous() for n, p in learned}, f"{output}-{rank}")


def shared_out(launch: Sequence[str], env: dict[str, str], device: str, folder: Path, names: list[str]) -> str:
    """Run `work` under a launcher; what it said."""
    return run_launched(launch, env, folder, SCRIPT, [device, str(folder), *names])


def assert_alike(name: str, device: str, folder: Path, ranks: int, tolerance: float = 1e-5) -> None:
    """Each process gave the curves and weights of one process that holds everything, and what was saved loads."""
    _, one = trained(name, device, 4)
    if name == "full":
        again = load(folder / "full-saved", device=device).network.state_dict()
        for key, weight in one.network.state_dict().items():
            torch.testing.assert_close(weight, again[key], rtol=0, atol=tolerance, msg=key)
    for rank in range(ranks):
        told = json.loads((folder / f"{name}-{rank}.json").read_text())
        assert told["base as it was"]
        assert told["plain"]
        assert device != "cpu" or told["says"] == one.generate(["What is 1?"])[0][0].text
        for curve, (steps, values) in zip(CURVES, told["curves"], strict=True):
            own_steps, own_values = one.history.series(curve)
            assert steps == own_steps
            assert values == pytest.approx(own_values, abs=tolerance if device == "cpu" else 10 * tolerance), curve
        weights = load_file(folder / f"{name}-{rank}")
        own = trainable(one.network)
        assert weights.keys() == own.keys()
        assert max(float(p.abs().max()) for p in weights.values()) > 50 * tolerance
        for key, weight in weights.items():
            torch.testing.assert_close(weight, own[key].detach().cpu(), rtol=0, atol=tolerance, msg=key)


def stopped_earlier(output: Path) -> None:
    """As if a run had been killed behind its first checkpoint."""
    first, *later = sorted(output.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    assert later
    for folder in (*later, output / "finished"):
        shutil.rmtree(folder)
    assert {p.name for p in first.iterdir()} >= {"optimizer.pt", "scheduler.pt", "trainable.safetensors"}


def test_two_processes_that_share_out_weights(tmp_path: Path) -> None:
    env = prepare_multi_gpu_env(launched("fsdp2")) | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    names = ["lora", "full", "pairs", "principal"]
    shared_out(TWO, env, "cpu", tmp_path, names)
    for name in names:
        assert_alike(name, "cpu", tmp_path, ranks=2)
    # Resumed, to the bit.
    before = load_file(tmp_path / "full-0")
    stopped_earlier(tmp_path / "full")
    shared_out(TWO, env, "cpu", tmp_path, ["full"])
    for rank in (0, 1):
        after = load_file(tmp_path / f"full-{rank}")
        assert all(torch.equal(after[key], weight) for key, weight in before.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="accelerate starts these on GPUs only")
@pytest.mark.parametrize("engine", ["fsdp2", "deepspeed"])
def test_on_a_gpu(engine: str, tmp_path: Path) -> None:
    if engine == "deepspeed" and find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(FOLDER / f"{engine}.yaml")]
    launch += ["--num_processes", "1", "--main_process_port", port]
    shared_out(launch, dict(os.environ), "cuda", tmp_path, list(RUNS))
    for name in RUNS:
        assert_alike(name, "cuda", tmp_path, ranks=1, tolerance=2e-3 if name == "narrow" else 1e-4)
    if engine == "fsdp2":
        stopped_earlier(tmp_path / "full")
        shared_out(launch, dict(os.environ), "cuda", tmp_path, ["full"])
        assert_alike("full", "cuda", tmp_path, ranks=1, tolerance=1e-4)


ON: dict[str, str] = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.mark.parametrize(
    ("env", "options", "adapter", "said"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {"at_once": 1}, LoRA(), "leave Settings.at_once out"),
        (ON, {"at_once": 2}, LoRA(), "use accumulation"),
        (ON, {"optimizer": "adafactor"}, LoRA(), "needs whole tensors"),
        (ON, {"quantization_aware": 4}, LoRA(), "not quantized or rounded"),
        (ON, {}, Bottleneck(size=4), "LoRA and FullFineTuning, not 'bottleneck'"),
        (ON, {}, LoRA(), "this model is on the CPU"),
        (ON | {"FSDP_VERSION": "1"}, {}, LoRA(), "only the second version"),
        (ON | {"FSDP_OFFLOAD_PARAMS": "true"}, {}, LoRA(), "fsdp_offload_params does not go with fit"),
    ],
)
def test_what_does_not_fit_is_refused(
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    options: dict[str, Any],
    adapter: Any,
    said: str,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said):
        SFTTrainer(adapter=adapter, settings=Settings(**options)).fit(tiny_model(), **SFT)


def test_whoever_asks_between_steps_is_refused(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ON.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="watch asks the network between"):
        SFTTrainer().fit(tiny_model(), **SFT, watch=lambda model: 1.0)
    thumbs = [{"q": "What is 1?", "completion": "One", "label": True}]
    with pytest.raises(SettingsError, match="KTOTrainer asks the network between"):
        KTOTrainer().fit(tiny_model(), thumbs, prompt="{q}")
