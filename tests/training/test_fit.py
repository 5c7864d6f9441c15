"""What all trainers share: a batch however it is cut, weights of rows, Ctrl-C, kills, a full disk, rounding."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import DataError, ModelError, SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from condition.training import sft
from condition.training.checkpoints import digest
from condition.training.engine import Engine
from condition.training.objective import Measured
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example
from tests.conftest import ROOT, TinyModel

ROWS = [{"q": f"What is {i}? " + "sky " * (i % 5), "target": f"It is {i % 3}"} for i in range(12)]
QUICK: dict[str, Any] = {"batch_size": 4, "learning_rate": 1e-2, "precision": "fp32", "log_every": 1, "warmup": 0.0}


def fit(
    model: LocalModel, rows: Any = ROWS, adapter: Any = LoRA(rank=4), held: Any = None, **options: Any
) -> LocalModel:
    settings = Settings(**{**QUICK, **options})
    return SFTTrainer(adapter=adapter, settings=settings).fit(model, rows, prompt="{q}", validation=held)


def assert_close(one: LocalModel, other: LocalModel, tolerance: float = 1e-5) -> None:
    theirs = trainable(other.network)
    for name, parameter in trainable(one.network).items():
        torch.testing.assert_close(parameter, theirs[name], rtol=0, atol=tolerance)


# The same batch, however it is cut


@pytest.mark.parametrize("options", [{"at_once": 1}, {"at_once": 3, "neftune": None}, {"at_once": "auto"}])
def test_pieces_are_the_whole_batch(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    base = tiny_model()
    held = [{"q": "What is it?", "target": "blue"}] * 3
    whole = fit(base, held=held, optimizer="sgd", max_steps=3)
    cut = fit(base, held=held, optimizer="sgd", max_steps=3, **options)
    assert_close(cut, whole)
    assert cut.history.series("eval_loss")[1] == pytest.approx(whole.history.series("eval_loss")[1], abs=1e-5)
    assert cut.history.series("loss")[1] == pytest.approx(whole.history.series("loss")[1], abs=1e-5)


def test_where_memory_runs_out_the_optimizer_sees_the_same_batch(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base, real = tiny_model(), sft.likelihood
    whole = fit(base, optimizer="sgd", max_steps=3, accumulation=2, batch_size=3)

    def small(network: Any, rows: Any, shared: bool) -> Measured:
        measured = real(network, rows, shared)
        if len(rows) > 1 and torch.is_grad_enabled():  # found out in the backward pass, when a part is done
            measured.loss.register_hook(full)
        return measured

    def full(gradient: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(sft, "likelihood", small)
    cut = fit(base, optimizer="sgd", max_steps=3, accumulation=2, batch_size=3)
    assert "memory ran out with 3 rows at once: going on with 1" in caplog.text
    assert_close(cut, whole)


def test_a_row_of_weight_two_counts_as_two(tiny_model: TinyModel) -> None:
    base = tiny_model()
    rows = [Example({"q": row["q"]}, row["target"]) for row in ROWS[:3]]
    heavy = [rows[0], rows[1].model_copy(update={"weight": 2.0}), rows[2]]
    one, two = (
        fit(base, data, optimizer="sgd", max_steps=1, batch_size=size)
        for data, size in ((heavy, 3), ([rows[0], rows[1], rows[1], rows[2]], 4))
    )
    assert_close(one, two)
    assert one.history[0]["loss"] == pytest.approx(two.history[0]["loss"], abs=1e-5)
    light = fit(base, rows, optimizer="sgd", max_steps=1, batch_size=3)
    assert light.history[0]["loss"] != pytest.approx(one.history[0]["loss"], abs=1e-3)


@pytest.mark.parametrize("packing", [False, True])
def test_rows_in_one_batch_do_not_see_each_other(tiny_model: TinyModel, packing: bool) -> None:
    """The gradient of a batch is the sum of its rows': nothing of one reaches another, with a common beginning too."""
    base = tiny_model()
    header = "The bridge at Orla was built of oak in 1784 and rebuilt in stone. " * 2
    rows = [{"q": f"{header}{row['q']}", "target": row["target"]} for row in ROWS[:4]]
    together, alone = (
        fit(base, rows, optimizer="sgd", max_steps=1, packing=packing, at_once=at_once) for at_once in (None, 1)
    )
    assert_close(together, alone)


# Rows that stand twice


def test_validation_rows_are_not_trained_on(tiny_model: TinyModel, tmp_path: Path) -> None:
    held = [{"q": "what is  1? SKY", "target": "It is 1"}]
    with pytest.raises(DataError, match=r"training row 1 is in the validation data too"):
        fit(tiny_model(), held=held, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    tuned = fit(tiny_model(), held=held, overlap="drop", max_steps=1)
    assert tuned.contract is not None
    assert (tuned.contract.rows, tuned.contract.metrics["rows_dropped"]) == (11, 1)


# Stopped and killed


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """A process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_to_the_same_end(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, output, real = tiny_model(), tmp_path / "run", Engine.training_step
    options: dict[str, Any] = {
        "adapter": LoRA(rank=2, dropout=0.1),
        "epochs": 2,
        "neftune": 5.0,
        "order": "by-length",
        "schedule": "stable-decay",
        "accumulation": 2,
        "batch_size": 2,
    }

    sent: list[int] = []

    def interrupted(engine: Engine, *given: Any, **named: Any) -> Any:
        if engine.state.global_step == 2 and not sent:
            sent.append(os.getpid())
            os.kill(os.getpid(), signal.SIGINT)
        return real(engine, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(base, output=output, save_every=99, **options)
    said = capsys.readouterr().err
    assert "stopping behind this step, with a checkpoint; Ctrl-C again stops at once" in said
    assert f"stopped behind step 3 of 6; the same call goes on from the last checkpoint in {output}" in said
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-3"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = fit(base, output=output, save_every=99, **options)
    assert digest(resumed.network) == digest(fit(base, **options).network)


KILLED = """
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from tests.conftest import _tiny, _tiny_tokenizer
from tests.training import test_fit as t
from condition.adapters.attach import trainable
from condition.models.contract import Source, memory_fingerprint
from condition.training.checkpoints import digest

network = _tiny("llama")
source = Source(kind="memory", name="tiny llama", fingerprint=memory_fingerprint(network))
base = t.LocalModel(network, _tiny_tokenizer(), source=source)
options = json.loads(sys.argv[1])
adapter = t.LoRA(rank=2, dropout=0.1)

def trained(options):
    # In a child: who has trained has threads, for which its forks would wait.
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, digest(t.fit(base, adapter=adapter, **options).network).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as told:
        return told.read()

whole = trained({**options, "output": None})
draw, killed, steps, output = random.Random(0), 0, [], options["output"]
os.makedirs(output, exist_ok=True)
while killed < 10:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        t.fit(base, adapter=adapter, **options)
        os._exit(0)
    began, before = time.monotonic(), steps[-1] if steps else 0
    while time.monotonic() < began + 60 and not os.path.isdir(f"{output}/checkpoint-{before + 2}"):
        time.sleep(0.001)
    time.sleep(0.03 * draw.random())
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
    folders = [p for p in os.listdir(output) if p.startswith("checkpoint-")]
    steps.append(max([int(p.split("-")[1]) for p in folders], default=0))
    if not os.WIFSIGNALED(status):
        break
print(json.dumps([killed, steps, len(whole) == 64 and whole == trained(options)]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks, so that ten kills do not take ten starts")
def test_killed_ten_times_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    """A checkpoint at each step, so that some of the kills come while one is written."""
    options = {"epochs": 8, "save_every": 1, "keep": 2, "output": str(tmp_path / "run"), "batch_size": 2}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, json.dumps(options)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    killed, steps, equal = json.loads(done.stdout.splitlines()[-1])
    assert equal, steps
    assert killed == 10, steps
    assert steps[-1] > steps[0]


# What the machine refuses


def test_a_file_that_can_not_grow(tiny_model: TinyModel, tmp_path: Path) -> None:
    """As on a full disk: the write fails in the middle. What was written before is whole, and the run goes on."""
    base, output = tiny_model(), tmp_path / "run"
    options: dict[str, Any] = {"output": output, "save_every": 1, "max_steps": 3}
    first = fit(base, output=output, save_every=1, max_steps=3)
    whole = digest(first.network)
    for folder in (output / "finished", output / "checkpoint-3", output / "checkpoint-2"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ModelError, match=r"can't write .*checkpoint-2.* checkpoints written before are intact"):
            fit(base, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-1"]
    assert digest(fit(base, **options).network) == whole


# Rounding


def test_trained_with_rounded_weights_it_fits_a_rounded_base(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    base = load(tiny_folder)
    before = {name: tensor.clone() for name, tensor in base.network.state_dict().items()}
    tuned = fit(base, epochs=4, quantization_aware=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.network.state_dict().items())
    assert not any("Fake" in type(module).__name__ for module in tuned.network.modules())
    tuned.save_pretrained(tmp_path / "aware")
    plain = fit(base, epochs=4)
    plain.save_pretrained(tmp_path / "plain")
    rounded = Quantization(bits=2, kind="intx")

    def loss(name: str) -> float:
        model = load(tmp_path / name, quantization=rounded)
        scores = model.score([row["q"] for row in ROWS], [[row["target"]] for row in ROWS])
        return -sum(score.logprob for [score] in scores)

    assert loss("aware") < loss("plain")


def test_on_another_base_than_it_has_learned_beside_it_says_so(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("torchao")
    fit(load(tiny_folder), max_steps=1, quantization_aware=4).save_pretrained(tmp_path / "aware")
    others = {"float32": None, "intx2": Quantization(bits=2, kind="intx"), "nf4": Quantization()}
    for name, quantization in others.items():
        caplog.clear()
        load(tmp_path / "aware", quantization=quantization)
        assert f"was trained for a base in 4 bits (quantization_aware), and stands on one in {name}" in caplog.text
        assert "load(folder, quantization=Quantization(bits=4, kind='intx'))" in caplog.text
    caplog.clear()
    load(tmp_path / "aware", quantization=Quantization(bits=4, kind="intx"))
    assert not caplog.text


@pytest.mark.parametrize(
    ("quantization", "options", "said"),
    [
        (Quantization(kind="int8-dynamic"), {}, "'int8-dynamic', whose products have no gradient"),
        (Quantization(bits=4), {"quantization_aware": 4}, "this one is quantized already"),
    ],
)
def test_what_can_not_be_trained(tiny_folder: Path, quantization: Quantization, options: Any, said: str) -> None:
    pytest.importorskip("torchao")
    with pytest.raises(SettingsError, match=said):
        fit(load(tiny_folder, quantization=quantization), max_steps=1, **options)
