"""SFT: what it teaches, what it leaves alone, what it refuses, and that it survives `kill -9`."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import DataError, ModelError, SettingsError
from condition.models.local import LocalModel
from condition.prompts.template import as_prompt
from condition.training.checkpoints import WEIGHTS, digest, load_trainable
from condition.training.engine import Engine
from condition.training.fit import training_dtype
from condition.training.output import LOCK
from condition.training.rows import prepare
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Sampling
from tests.conftest import ROOT, TinyModel

ROWS = [{"q": f"What is {i}? " + "sky " * (i % 5), "target": f"It is {i % 3}"} for i in range(12)]
HELD = [{"q": f"What is {i}?", "target": "x " * (1 + i)} for i in range(5)]
QUICK: dict[str, Any] = {
    "batch_size": 2,
    "learning_rate": 1e-2,
    "precision": "fp32",
    "log_every": 1,
    "schedule": "constant",
    "warmup": 0.0,
}


def fit(
    model: LocalModel, rows: Any = ROWS, adapter: LoRA = LoRA(rank=4), held: Any = None, **options: Any
) -> LocalModel:
    settings = Settings(**{**QUICK, **options})
    return SFTTrainer(adapter=adapter, settings=settings).fit(model, rows, prompt="{q}", validation=held)


def weights(model: LocalModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainable(model.network).items()}


def same(one: LocalModel, other: LocalModel) -> bool:
    return digest(one.network) == digest(other.network)


def listing(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# What it teaches, and what it leaves alone


def test_the_only_step_of_a_run_learns(tiny_model: TinyModel) -> None:
    base = tiny_model()
    one, more = (fit(base, max_steps=steps, warmup=0.05, schedule="cosine") for steps in (1, 4))
    assert not same(one, fit(base, max_steps=1, learning_rate=1e-30))
    assert [line["learning_rate"] for line in more.history if "loss" in line] == pytest.approx(
        [1e-2 * share for share in (1 / 2, 1, 3 / 4, 1 / 4)]
    )


def test_the_loss_falls_and_is_kept(tiny_model: TinyModel, family: str) -> None:
    tuned = fit(tiny_model(family), epochs=3)
    steps, losses = tuned.history.series("loss")
    assert steps == list(range(1, 19))
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.5
    assert all("epoch" in line for line in tuned.history)


def test_it_learns_to_say_the_target_and_to_stop(tiny_model: TinyModel) -> None:
    rows = [{"q": "What is it?", "target": "blue"}]
    tuned = fit(tiny_model(tie_word_embeddings=True), rows, LoRA(rank=16), epochs=40, learning_rate=5e-3)
    answer = tuned.invoke("What is it?", Sampling(max_tokens=12))
    assert answer.text == "blue"
    assert answer.candidates[0].finish_reason == "stop"


def test_the_base_stays_and_both_are_usable(tiny_model: TinyModel, family: str) -> None:
    base = tiny_model(family)
    before = {name: tensor.clone() for name, tensor in base.network.state_dict().items()}
    [[said]], [[score]] = base.generate("x", Sampling(max_tokens=5)), base.score(["x"], [["blue"]])
    tuned = fit(base, max_steps=4)
    other = fit(base, max_steps=4, seed=1)
    assert not same(tuned, other)
    after = base.network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.grad is None for p in base.network.parameters())
    assert base.generate("x", Sampling(max_tokens=5))[0][0].token_ids == said.token_ids
    assert base.score(["x"], [["blue"]])[0][0].logprob == pytest.approx(score.logprob, abs=1e-6)
    assert tuned.score(["x"], [["blue"]])[0][0].logprob != pytest.approx(score.logprob, abs=1e-3)
    assert base.contract is None


def test_the_same_call_gives_the_same_weights(tiny_model: TinyModel) -> None:
    base = tiny_model()
    assert same(
        fit(base, max_steps=3, adapter=LoRA(rank=4, dropout=0.2)),
        fit(base, max_steps=3, adapter=LoRA(rank=4, dropout=0.2)),
    )
    assert not same(fit(base, max_steps=3), fit(base, max_steps=3, seed=3))


def test_tuning_on_leaves_the_first_as_it_was(tiny_model: TinyModel) -> None:
    first = fit(tiny_model(), max_steps=3)
    before = weights(first)
    second = SFTTrainer(settings=Settings(**QUICK, max_steps=3)).fit(first, ROWS, prompt="Say: {q}")
    assert all(torch.equal(before[name], p) for name, p in weights(first).items())
    assert not same(first, second)
    assert second.contract is not None
    assert second.contract.adapter is not None
    assert second.contract.adapter["rank"] == 4  # its own, not the trainer's default
    assert second.prompt.variables == first.prompt.variables  # type: ignore[union-attr]  # both have one
    assert len(second.network.peft_config) == 1


def test_tuning_on_with_another_adapter_is_refused(tiny_model: TinyModel) -> None:
    first = fit(tiny_model(), max_steps=1)
    with pytest.raises(SettingsError, match=r"keeps its adapter, which differs in rank \(4, asked for 8\)"):
        fit(first, adapter=LoRA(rank=8))
    assert fit(first, adapter=LoRA(rank=4), max_steps=1).contract is not None


def test_the_contract_tells_of_the_training(tiny_model: TinyModel) -> None:
    contract = fit(tiny_model(), max_steps=2, held=HELD, eval_every=1).contract
    assert contract is not None
    assert (contract.trainer, contract.rows, contract.dtype) == ("SFTTrainer", 12, "float32")
    assert contract.settings["learning_rate"] == 1e-2
    assert contract.settings["precision_used"] == "float32"
    assert contract.prompt == {"kind": "chat", "format": "f-string", "messages": [{"role": "user", "template": "{q}"}]}
    assert contract.stop_tokens == (2,)
    assert {"seconds", "trained_parameters", "final_loss", "rows_dropped"} <= contract.metrics.keys()
    assert "best_step" not in fit(tiny_model(), max_steps=1).contract.metrics  # type: ignore[union-attr]  # it has one


def test_rows_left_out_or_cut_are_counted(tiny_model: TinyModel) -> None:
    rows = [*ROWS, {"q": "sky " * 90, "target": "blue"}]
    for policy, counts in (("drop", (12, 1, 0)), ("trim", (13, 0, 1))):
        contract = fit(tiny_model(), rows, max_steps=1, max_length=80, too_long=policy).contract
        assert contract is not None
        assert (contract.rows, contract.metrics["rows_dropped"], contract.metrics["rows_trimmed"]) == counts


def test_what_comes_back_is_ready_for_use(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    base, enable = tiny_model(), PreTrainedModel.activation_checkpointing_enable
    monkeypatch.setattr(
        PreTrainedModel, "activation_checkpointing_enable", lambda self, how: [asked.append(how), enable(self, how)]
    )
    for checkpointing in ("auto", False, True):
        network = fit(base, max_steps=1, checkpointing=checkpointing).network
        assert not any(getattr(module, "gradient_checkpointing", False) for module in network.modules())
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not network.training
    assert asked == [{"use_reentrant": False}]  # on the CPU only where it is asked for


def test_it_trains_with_fused_layers_and_shared_beginnings(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither changes a number, so only speed would tell."""
    seen: list[tuple[int, bool]] = []
    base, real = tiny_model(), Engine.training_step

    def look(engine: Engine, *given: Any, **named: Any) -> Any:
        swapped = sum("forward" in module.__dict__ for module in engine.model.network.modules())
        seen.append((swapped, engine.model.shared))
        return real(engine, *given, **named)

    monkeypatch.setattr(Engine, "training_step", look)
    tuned = fit(base, max_steps=1)
    [(swapped, shared)] = seen
    assert swapped >= 2 * 7  # the projections of two layers
    assert shared
    assert not any("forward" in module.__dict__ for module in tuned.network.modules())


# What is equal


def test_threads_take_turns(tiny_model: TinyModel) -> None:
    """Dropout draws from the process's random state, at each step."""
    base, options = tiny_model(), {"adapter": LoRA(rank=4, dropout=0.3), "max_steps": 6}
    [[alone]] = base.generate("x", Sampling(max_tokens=9, temperature=1.0, seed=3))
    expected = [digest(fit(base, seed=seed, **options).network) for seed in (0, 1)]
    with ThreadPoolExecutor(3) as pool:
        fits = [pool.submit(fit, base, seed=seed, **options) for seed in (0, 1)]
        said = [base.generate("x", Sampling(max_tokens=9, temperature=1.0, seed=3)) for _ in range(3)]
        assert [digest(f.result().network) for f in fits] == expected
    assert all(one[0][0].token_ids == alone.token_ids for one in said)


@pytest.mark.parametrize("packing", [False, True])
def test_accumulation_is_the_big_batch(tiny_model: TinyModel, packing: bool) -> None:
    """Rows of unequal length, the last step smaller than the others."""
    base, rows = tiny_model(), ROWS[:11] if not packing else ROWS
    big = fit(base, rows, batch_size=4, epochs=2, learning_rate=1e-3)
    small = fit(
        base,
        rows,
        batch_size=1 if not packing else 2,
        accumulation=4 if not packing else 2,
        epochs=2,
        learning_rate=1e-3,
    )
    if packing:  # the order depends on the batch size: compare one step of all rows
        big = fit(base, rows, batch_size=12, max_steps=1, packing=True)
        small = fit(base, rows, batch_size=6, accumulation=2, max_steps=1, packing=True)
    for name, tensor in weights(small).items():
        torch.testing.assert_close(tensor, weights(big)[name], rtol=0, atol=1e-5, msg=name)


def test_packing_trains_on_every_row(tiny_model: TinyModel) -> None:
    """One step of all rows is the same whether the beginnings they share are computed once or not."""
    base, header = tiny_model(), "The bridge at Orla was built of oak in 1784. " * 4
    rows = [{"q": header + row["q"], "target": row["target"]} for row in ROWS]
    plain, packed = (weights(fit(base, rows, batch_size=12, max_steps=1, packing=p)) for p in (False, True))
    for name, tensor in plain.items():
        torch.testing.assert_close(packed[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_packing_takes_rows_in_an_order_of_the_seed(tiny_model: TinyModel) -> None:
    """From one start, so that nothing but the order differs."""
    start = fit(tiny_model(), max_steps=1)
    one, other = (fit(start, max_steps=3, packing=True, seed=seed) for seed in (0, 1))
    assert not same(one, other)


def test_checkpointing_gives_the_same_gradients(tiny_model: TinyModel) -> None:
    base = tiny_model()
    plain, again = weights(fit(base, max_steps=3)), weights(fit(base, max_steps=3, checkpointing=True))
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_validation_is_weighted_by_tokens(tiny_model: TinyModel) -> None:
    """By hand, over targets of very different lengths, in batches that do not divide the rows."""
    tuned = fit(tiny_model(), max_steps=2, held=HELD, eval_every=2, batch_size=2)
    rows = prepare(tuned, HELD, as_prompt("{q}"), Settings()).rows
    total, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            values = tuned.network(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
        total -= float(sum(values[i - 1, row.ids[i]] for i in range(row.start, len(row.ids))))
        count += len(row.ids) - row.start
    [loss] = tuned.history.series("eval_loss")[1]
    assert loss == pytest.approx(total / count, abs=1e-4)


# Checkpoints


def interrupted(done: Path, output: Path, step: int) -> None:
    """A folder as it was when `step` had just been written."""
    shutil.copytree(done, output)
    shutil.rmtree(output / "finished")
    for folder in output.glob("checkpoint-*"):
        if int(folder.name.rpartition("-")[2]) > step:
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("adapter", "options"),
    [
        (LoRA(rank=2), {}),
        (LoRA(rank=2), {"packing": True}),
        (LoRA(rank=2, dropout=0.2), {"accumulation": 2, "batch_size": 1}),
        (LoRA(rank=2, dropout=0.2), {"packing": True, "accumulation": 2, "schedule": "cosine"}),
    ],
)
def test_resumed_from_any_checkpoint_it_ends_with_the_same_weights(
    tiny_model: TinyModel, tmp_path: Path, adapter: LoRA, options: dict[str, Any]
) -> None:
    """Within an epoch, at its end, and in the next; each step of six, three or three an epoch, is a checkpoint."""
    base = tiny_model()
    options = {**options, "epochs": 2, "save_every": 1, "keep": 99}
    done = fit(base, adapter=adapter, output=str(tmp_path / "done"), **options)
    steps = sorted(int(p.name.rpartition("-")[2]) for p in (tmp_path / "done").glob("checkpoint-*"))
    assert len(steps) >= 6
    half = len(steps) // 2
    for step in {steps[0], steps[half - 2], steps[half - 1], steps[half], steps[-2]}:
        output = tmp_path / f"from-{step}"
        interrupted(tmp_path / "done", output, step)
        resumed = fit(base, adapter=adapter, output=str(output), **options)
        assert same(resumed, done), step
        assert resumed.history.series("loss") == done.history.series("loss")


def test_a_broken_newest_checkpoint_is_skipped(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, options = tiny_model(), {"save_every": 2, "keep": 9}
    done = fit(base, output=str(tmp_path / "done"), **options)
    interrupted(tmp_path / "done", tmp_path / "broken", 4)
    file = tmp_path / "broken" / "checkpoint-4" / WEIGHTS
    file.write_bytes(file.read_bytes()[:200])
    assert same(fit(base, output=str(tmp_path / "broken"), **options), done)


def test_the_finished_call_again_is_done_at_once(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, options = tiny_model(), {"output": str(tmp_path / "run"), "save_every": 3}
    done = fit(base, **options)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    again = fit(base, **options)
    assert same(again, done)
    assert list(again.history) == list(done.history)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == times


def test_what_changes_no_weight_makes_no_other_run(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, output = tiny_model(), str(tmp_path / "run")
    done = fit(base, output=output, max_steps=2, save_every=1)
    assert same(fit(base, output=output, max_steps=2, save_every=1, keep=9, log_every=7), done)
    assert same(fit(base, output=tmp_path / "run", max_steps=2, save_every=1, report_to="tensorboard"), done)


def test_saved_steps_are_saved_whether_they_are_best_or_not(tiny_model: TinyModel, tmp_path: Path) -> None:
    tuned = fit(
        tiny_model(tie_word_embeddings=True),
        **{**CONTRARY, "epochs": 2, "eval_every": 1, "save_every": 1, "keep": 99, "output": str(tmp_path / "run")},
    )
    steps, _ = tuned.history.series("eval_loss")
    assert best_of(tuned)[0] < steps[-1]
    assert {int(p.name.rpartition("-")[2]) for p in (tmp_path / "run").glob("checkpoint-*")} == set(steps)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 5e-3}, "learning_rate"),
        ({"epochs": 2, "seed": 4}, "epochs, seed"),
        ({"adapter": LoRA(rank=8)}, "adapter"),
        ({"rows": ROWS[1:]}, "data"),
        ({"held": HELD}, "validation"),
    ],
)
def test_the_same_folder_with_something_else(
    tiny_model: TinyModel, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    base, output = tiny_model(), str(tmp_path / "run")
    fit(base, output=output, save_every=3)
    before = listing(tmp_path)
    with pytest.raises(SettingsError, match=f"holds checkpoints of another run; it differs in {named}\\."):
        fit(base, output=output, save_every=3, **change)
    assert listing(tmp_path) == before


def test_the_same_rows_behind_another_prompt(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, settings = tiny_model(), Settings(**QUICK, max_steps=2, output=tmp_path / "run")
    trainer = SFTTrainer(LoRA(rank=2), settings)
    trainer.fit(base, ROWS, prompt="{q}", validation=HELD)
    with pytest.raises(SettingsError, match=r"differs in the prompt or chat template \(the rows are the same\)\."):
        trainer.fit(base, ROWS, prompt="Q: {q}", validation=HELD)
    longer = SFTTrainer(LoRA(rank=2), settings.model_copy(update={"max_steps": 3}))
    with pytest.raises(SettingsError, match=r"differs in max_steps\. .*train its result on, fit\(tuned, \.\.\.\)"):
        longer.fit(base, ROWS, prompt="{q}", validation=HELD)


def test_a_run_that_is_finished_says_so(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, output = tiny_model(), str(tmp_path / "run")
    done = fit(base, max_steps=1, output=output)
    assert "finished before" not in capsys.readouterr().err
    assert same(fit(base, max_steps=1, output=output, report_to="tensorboard"), done)
    told = (
        f"finished before: its result is taken from {output}, nothing is trained, and nothing reported to tensorboard"
    )
    assert told in capsys.readouterr().err
    fit(base, max_steps=1, output=output)
    assert capsys.readouterr().err.endswith("nothing is trained\n")


def test_tuning_on_other_weights_is_another_run(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model()
    one, two = fit(base, max_steps=1), fit(base, max_steps=2)
    output = str(tmp_path / "run")
    fit(one, output=output, max_steps=2)
    with pytest.raises(SettingsError, match="differs in tuned_on, weights"):
        fit(two, output=output, max_steps=2)


@pytest.mark.parametrize(
    ("change", "named"),
    [(lambda n: n.lm_head.weight.data.mul_(1.5), "weights"), (lambda n: n.double(), "weights_dtype")],
)
def test_a_base_that_changed_in_memory_is_another_run(
    tiny_model: TinyModel, tmp_path: Path, change: Callable[[Any], Any], named: str
) -> None:
    """The fingerprint of its source is still the same."""
    base, output = tiny_model(), str(tmp_path / "run")
    fit(base, output=output, max_steps=1)
    change(base.network)
    with pytest.raises(SettingsError, match=rf"it differs in {named}\."):
        fit(base, output=output, max_steps=1)


@pytest.mark.parametrize("writer", ["safetensors.torch.serialize_file", "torch.save", "json.dumps"])
def test_a_full_disk(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str) -> None:
    """At the second checkpoint, in each of its files' ways; with room again the same call goes on."""
    base, output = tiny_model(), tmp_path / "run"
    options = {"output": str(output), "save_every": 2}
    module, _, name = writer.rpartition(".")
    real = getattr(importlib.import_module(module), name)
    errors = {
        "torch.save": RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        "json.dumps": OSError(errno.ENOSPC, "No space left on device"),
    }

    def full(*given: Any, **named: Any) -> Any:
        if (output / "checkpoint-4").exists():
            raise errors.get(writer, SafetensorError("I/O error: No space left on device (os error 28)"))
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(writer, full)
        with pytest.raises(
            ModelError,
            match=r"can't write .*run/checkpoint-4: .* MB are free there, at least 1 MB are needed\. Make room and",
        ):
            fit(base, **options)
    assert sorted(p.name for p in output.glob("checkpoint-*")) == ["checkpoint-2"]
    resumed = fit(base, **options)
    assert resumed.history.series("loss")[0] == [1, 2, 3, 4, 5, 6]
    assert same(resumed, fit(base))


HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1); time.sleep(99)"


def test_a_folder_in_which_another_process_trains(tiny_model: TinyModel, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    base, output = tiny_model(), tmp_path / "run"
    done = fit(base, output=str(output), max_steps=1, save_every=1)
    before = listing(output)
    with subprocess.Popen([sys.executable, "-u", "-c", HOLD, str(output / LOCK)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        for resume in (True, False):
            with pytest.raises(SettingsError, match=r"another process trains in .*run"):
                fit(base, output=str(output), max_steps=1, save_every=1, resume=resume)
        process.kill()
    assert listing(output) == before
    assert same(fit(base, output=str(output), max_steps=1, save_every=1, resume=False), done)


def test_somebody_elses_folder(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="holds 'finished', which is not ours"):
        fit(tiny_model(), max_steps=1, output=str(tmp_path))
    assert listing(tmp_path) == ["finished", "finished/thesis.txt"]


def test_starting_over(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, output = tiny_model(), str(tmp_path / "run")
    fit(base, output=output, save_every=1, keep=9)
    fresh = fit(base, output=output, save_every=3, keep=9, seed=5, resume=False)
    assert same(fresh, fit(base, seed=5))
    assert [p.name for p in sorted((tmp_path / "run").glob("checkpoint-*"))] == ["checkpoint-3", "checkpoint-6"]


def test_only_so_many_are_kept(tiny_model: TinyModel, tmp_path: Path) -> None:
    fit(tiny_model(), output=str(tmp_path / "run"), save_every=1, keep=2)
    assert sorted(p.name for p in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-6"]


def test_patience_stops_and_the_best_is_what_you_get(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Validation rows that say the contrary: their loss rises."""
    base, output = tiny_model(tie_word_embeddings=True), tmp_path / "run"
    rows = [{"q": "What is it?", "target": "blue"}] * 8
    held = [{"q": "What is it?", "target": "grey or green, the letter to the mayor"}]
    options = {"epochs": 20, "eval_every": 2, "patience": 2, "keep": 3, "output": str(output), "learning_rate": 3e-2}
    tuned = fit(base, rows, held=held, **options)
    steps, losses = tuned.history.series("eval_loss")
    assert len(steps) < 40
    best = losses.index(min(losses))
    assert len(losses) - 1 - best == 2
    kept = fit(base, rows, max_steps=1)
    load_trainable(kept.network, output / f"checkpoint-{steps[best]}")
    assert same(tuned, kept)
    assert len(list(output.glob("checkpoint-*"))) <= 3
    again = fit(base, rows, held=held, **options)
    assert same(again, tuned)
    assert again.history.series("eval_loss") == tuned.history.series("eval_loss")


CONTRARY: dict[str, Any] = {
    "rows": [{"q": "What is it?", "target": "blue"}] * 8,
    "held": [{"q": "What is it?", "target": "grey or green, the letter to the mayor"}],
    "epochs": 20,
    "learning_rate": 2e-2,
}
"""Validation rows that say the contrary: their loss falls, then rises."""


def best_of(tuned: LocalModel) -> tuple[int, float]:
    """Step and loss of the best validation."""
    steps, losses = tuned.history.series("eval_loss")
    return steps[losses.index(min(losses))], min(losses)


@pytest.mark.parametrize(
    "options", [{"save_every": 4, "output": "run"}, {"save_every": 3, "keep": 1}, {"eval_every": 2}]
)
def test_the_best_weights_are_what_you_get_whichever_steps_are_saved(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = tiny_model(tie_word_embeddings=True)
    tuned = fit(base, **{**CONTRARY, "eval_every": 1, "patience": 2, **options})
    step, loss = best_of(tuned)
    assert step % options.get("save_every", 99)
    assert step < tuned.history.series("eval_loss")[0][-1]
    assert same(tuned, fit(base, CONTRARY["rows"], max_steps=step, learning_rate=CONTRARY["learning_rate"]))
    assert tuned.contract is not None
    assert tuned.contract.metrics["best_step"] == step
    assert tuned.contract.metrics["best_eval_loss"] == loss
    assert "final_eval_loss" not in tuned.contract.metrics


def test_a_moved_folder_that_patience_had_ended(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Killed between the last checkpoint and the end, then moved: the same end, without one step more."""
    base = tiny_model(tie_word_embeddings=True)
    options = {**CONTRARY, "eval_every": 1, "save_every": 1, "patience": 2}
    done = fit(base, output=str(tmp_path / "done"), **options)
    interrupted(tmp_path / "done", tmp_path / "moved", 99)
    shutil.rmtree(tmp_path / "done")
    again = fit(base, output=str(tmp_path / "moved"), **options)
    assert same(again, done)
    assert again.history.series("eval_loss") == done.history.series("eval_loss")
    shutil.rmtree(tmp_path / "moved" / "finished")
    shutil.rmtree(tmp_path / "moved" / f"checkpoint-{best_of(done)[0]}")
    with pytest.raises(SettingsError, match=r"the best so far, is gone or broken: start over"):
        fit(base, output=str(tmp_path / "moved"), **options)


def test_without_an_output_nothing_outlives_the_call(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fit(tiny_model(), max_steps=2, held=HELD, eval_every=1)
    assert listing(tmp_path) == []


def test_no_secret_is_written(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsVerySecret")
    tuned = fit(tiny_model(), max_steps=1, output=str(tmp_path / "run"), save_every=1)
    tuned.save_pretrained(tmp_path / "saved")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"thisIsVerySecret" not in path.read_bytes(), path


def test_a_tracker_writes(tiny_model: TinyModel, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(tiny_model(), max_steps=2, output=str(tmp_path / "run"), report_to="tensorboard")
    assert any("tfevents" in p.name and p.stat().st_size for p in (tmp_path / "run").rglob("*"))


def test_a_tracker_without_a_folder_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(SettingsError, match="report_to='tensorboard' needs an output folder"):
        fit(tiny_model(), max_steps=2, report_to="tensorboard")


SCRIPT = """
import json, sys
from tests.conftest import _tiny, _tiny_tokenizer
from tests.training import test_sft as t
from condition.models.contract import Source, memory_fingerprint
network = _tiny("llama")
source = Source(kind="memory", name="tiny llama", fingerprint=memory_fingerprint(network))
base = t.LocalModel(network, _tiny_tokenizer(), source=source)
options = json.loads(sys.argv[1])
t.fit(base, adapter=t.LoRA(rank=2, dropout=options.pop("dropout")), **options)
"""


@pytest.mark.parametrize(
    "options", [{"packing": False, "accumulation": 2, "dropout": 0.1}, {"packing": True, "dropout": 0.0}]
)
def test_killed_in_the_middle_it_ends_with_the_same_weights(
    tiny_model: TinyModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    output = tmp_path / "run"
    options = {**options, "epochs": 12, "save_every": 2, "output": str(output)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(options)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 120
        while len(list(output.glob("checkpoint-*"))) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors.decode()[-2000:]
    assert not (output / "finished").exists()
    adapter = LoRA(rank=2, dropout=options.pop("dropout"))
    resumed = fit(tiny_model(), adapter=adapter, **options)
    assert same(resumed, fit(tiny_model(), adapter=adapter, **{**options, "output": None}))


# What it says


def test_stopped_and_going_on(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, output, real = tiny_model(), str(tmp_path / "run"), Engine.training_step

    def stop(engine: Engine, *given: Any, **named: Any) -> Any:
        if engine.state.global_step == 3:
            raise KeyboardInterrupt
        return real(engine, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(base)
        said = capsys.readouterr().err
        assert "stopped behind step 3 of 6; nothing was kept: with Settings(output=folder, save_every=steps)" in said
        with pytest.raises(KeyboardInterrupt):
            fit(base, output=output, save_every=2)
        said = capsys.readouterr().err
        assert f"stopped behind step 3 of 6; the same call goes on from the last checkpoint in {output}" in said
        assert "going on" not in said
        other = str(tmp_path / "early")
        with pytest.raises(KeyboardInterrupt):
            fit(base, output=other, save_every=5)
        said = capsys.readouterr().err
        assert f"stopped behind step 3 of 6; no checkpoint was in {other} yet: the same call starts over" in said
    resumed = fit(base, output=output, save_every=2)
    assert "going on behind step 2 of 6" in capsys.readouterr().err
    assert same(resumed, fit(base))
    assert "behind step" not in capsys.readouterr().err


@pytest.mark.parametrize(("max_steps", "logged"), [(5, [1, 4, 5]), (4, [1, 4])])
def test_the_last_step_is_always_logged(tiny_model: TinyModel, max_steps: int, logged: list[int]) -> None:
    assert fit(tiny_model(), max_steps=max_steps, log_every=4).history.series("loss")[0] == logged


# What it refuses


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"patience": 2}, SettingsError, "patience needs validation rows"),
        ({"eval_every": 2}, SettingsError, "eval_every needs validation rows"),
        ({"report_to": "nonsense"}, SettingsError, "these settings can't be used here: nonsense is not supported"),
        ({"rows": [{"q": "x"}]}, DataError, "row 0: no column 'target'"),
        ({"rows": [{"q": "x", "target": ""}]}, DataError, "row 0: the target is empty"),
        ({"rows": [{"q": "x", "target": 3}]}, DataError, "row 0: the target is int"),
        ({"rows": []}, DataError, "no training rows"),
        ({"held": []}, DataError, "no validation rows"),
        ({"held": [{"target": "x"}]}, DataError, r"validation row 0: the prompt needs the column 'q'"),
        ({"max_length": 10}, DataError, "the limit is 10"),
    ],
)
def test_refused_before_any_work(
    tiny_model: TinyModel, tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        fit(tiny_model(), **{"output": str(tmp_path / "run"), **options})
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"adapter": Settings()}, r"give SFTTrainer\(settings=cd\.Settings\(\.\.\.\)\)"),
        ({"settings": {"epochs": 2, "seed": 1}}, r"is no Settings: give cd\.Settings\(epochs=2, seed=1\)"),
        ({"settings": None}, r"settings=None is no Settings: give cd\.Settings\(epochs=1\)"),
        ({"adapter": 8}, r"adapter=8 is no adapter: give one, cd\.LoRA\(rank=8\), or another such as cd\.PromptTuning"),
        ({"adapter": LoRA}, r"is no adapter: give one, cd\.LoRA\(\), or"),
        ({"adapter": "lora"}, r"adapter='lora' is no adapter: give one, cd\.LoRA\(\), or"),
        ({"adapter": "Prompt-Tuning"}, r"give one, cd\.PromptTuning\(\), or another such as cd\.IA3, cd\.Bottleneck"),
        ({"adapter": None}, r"adapter=None is no adapter: give one, cd\.LoRA\(rank=16\), or"),
        ({"adapter": {"rank": 4, "alpha": 8}}, r"give one, cd\.LoRA\(rank=4, alpha=8\), or"),
    ],
)
def test_arguments_of_another_type(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        SFTTrainer(**arguments)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("HuggingFaceTB/SmolLM2-135M", r"load it first: cd\.load\('HuggingFaceTB/SmolLM2-135M'\)"),
        (Path("runs/q"), r"load it first: cd\.load\('runs/q'\)"),
        (None, r"not None: load it first: cd\.load\(\.\.\.\)"),
    ],
)
def test_a_model_that_is_not_loaded(model: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        fit(model)


def test_settings_that_cannot_be_used_touch_no_earlier_run(tiny_model: TinyModel, tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    fit(tiny_model(), output=output, save_every=3)
    before = listing(tmp_path)
    with pytest.raises(SettingsError, match="nonsense is not supported"):
        fit(tiny_model(), output=output, save_every=3, resume=False, report_to="nonsense")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("place", ["file/run", "/proc/condition-run", "locked/run"])
def test_a_folder_that_cannot_be_written(tiny_model: TinyModel, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "locked").mkdir(mode=0o555)
    if place.startswith("locked") and os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(ModelError, match=r"can't write to .*run.* Choose another folder"):
        fit(tiny_model(), output=str(tmp_path / place))
    assert listing(tmp_path) == ["file", "locked"]


def test_a_learning_rate_that_breaks_the_network(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, output = tiny_model(), tmp_path / "run"
    before = {name: tensor.clone() for name, tensor in base.network.state_dict().items()}
    with pytest.raises(
        ModelError,
        match=r"(has exploded|the loss became|the gradient of .* is not finite).*Lower Settings\.learning_rate",
    ):
        fit(base, epochs=20, learning_rate=1e30, output=str(output), save_every=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.network.state_dict().items())
    assert len(base.generate("x", Sampling(max_tokens=2))) == 1


def test_a_run_that_got_nowhere_leaves_nothing_and_its_folder_is_free(tiny_model: TinyModel, tmp_path: Path) -> None:
    broken, output = tiny_model(), tmp_path / "run"
    broken.network.get_submodule("model.norm").weight.data[3] = float("nan")
    with (
        pytest.warns(UserWarning, match="prefix sharing is off"),
        pytest.raises(ModelError, match="the loss became nan"),
    ):
        fit(broken, max_steps=2, output=str(output), save_every=1)
    assert listing(output) == []
    fit(tiny_model(), max_steps=1, output=str(output))
    assert (output / "finished").is_dir()


def test_a_run_that_was_killed_before_its_first_checkpoint_binds_nobody(tiny_model: TinyModel, tmp_path: Path) -> None:
    output = tmp_path / "run"
    fit(tiny_model(), max_steps=1, output=str(output))
    shutil.rmtree(output / "finished")  # the mark alone is what a kill leaves
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    assert "run.json" in listing(output)
    tuned = fit(tiny_model(), max_steps=2, learning_rate=1e-3, output=str(output))
    assert tuned.contract.settings["learning_rate"] == json.loads((output / "run.json").read_text())["learning_rate"]


def test_poisoned_weights(tiny_model: TinyModel) -> None:
    base = tiny_model()
    base.network.get_submodule("model.norm").weight.data[3] = float("nan")
    with (
        pytest.warns(UserWarning, match="prefix sharing is off"),
        pytest.raises(ModelError, match="the loss became nan"),
    ):
        fit(base, max_steps=1)


def test_bf16_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert training_dtype(Settings(), cpu) == torch.float32
    with pytest.raises(SettingsError, match="precision='bf16', but this cpu has no bf16 instructions"):
        training_dtype(Settings(precision="bf16"), cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert training_dtype(Settings(), cpu) == torch.bfloat16
    assert training_dtype(Settings(precision="fp32"), cpu) == torch.float32
