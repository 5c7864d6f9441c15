"""DPO: what it teaches, that batches add up, what it keeps, what it watches, and what it refuses."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import ContractError, DataError, SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.training.candidates import prepare_rankings
from condition.training.objective import Objective
from condition.training.preference import DPOTrainer, PairObjective
from condition.training.references import with_references
from condition.training.rows import collate
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.training.signs import hacking_signs
from condition.types import Example, Ranking
from tests.conftest import TinyModel

ROWS = [
    Ranking({"q": f"What is {i}? " + "sky " * (i % 5)}, (f"It is {i % 3}", "no " * (1 + i % 4), "perhaps"))
    for i in range(12)
]
HELD = [Ranking.pair({"q": f"Which is {i}?"}, f"It is {i}", "no " * (1 + i)) for i in range(4)]
QUICK: dict[str, Any] = {
    "batch_size": 2,
    "learning_rate": 1e-2,
    "precision": "fp32",
    "log_every": 1,
    "schedule": "constant",
    "warmup": 0.0,
}
PLAIN: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.5, "clip": 1.0}
"""Steps along the gradient."""
KINDS: list[dict[str, Any]] = [
    {},
    {"loss": "ipo"},
    {"loss": "hinge"},
    {"loss": "robust"},
    {"loss": "conservative"},
    {"normalised": True},
    {"reference_free": True, "normalised": True, "margin": 0.5},
    {"sft_weight": 1.0},
    {"pairs": "best"},
]


def fit(model: LocalModel, rows: Any = ROWS, held: Any = None, settings: Any = None, **options: Any) -> LocalModel:
    trainer = DPOTrainer(adapter=LoRA(rank=4), settings=Settings(**{**QUICK, **(settings or {})}), **options)
    return trainer.fit(model, rows, prompt="{q}", validation=held)


def last(model: LocalModel, name: str) -> float:
    return model.history.series(name)[1][-1]


def weights(model: LocalModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainable(model.network).items()}


def alike(one: LocalModel, other: LocalModel, atol: float = 1e-5) -> None:
    """Both moved the same way from an adapter that does nothing at first, and far more than they differ."""
    ours, theirs = weights(one), weights(other)
    assert max(float(p.abs().max()) for name, p in ours.items() if "lora_B" in name) > 1000 * atol
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name], atol=atol, rtol=0, msg=name)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_it_learns_what_is_better(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    tuned = fit(tiny_model(), settings={"epochs": 8, "schedule": "cosine"}, **options)
    losses = tuned.history.series("loss")[1]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert last(tuned, "accuracy") == 1.0
    assert tuned.contract is not None
    assert tuned.contract.trainer == "DPOTrainer"
    assert tuned.contract.settings["loss"] == options.get("loss", "sigmoid")


def test_it_begins_at_its_reference(tiny_model: TinyModel, family: str) -> None:
    first = fit(tiny_model(family), settings={"max_steps": 1}).history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["drift_better"] == pytest.approx(0, abs=1e-5)
    assert first["kl"] == pytest.approx(0, abs=1e-6)


def test_it_begins_there_whatever_the_network_drops(tiny_model: TinyModel) -> None:
    first = fit(tiny_model(attention_dropout=0.5), settings={"max_steps": 1}).history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_the_base_stays_and_the_tuned_one_is_saved(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model()
    before = {name: tensor.clone() for name, tensor in base.network.state_dict().items()}
    tuned = fit(base, settings={"max_steps": 4})
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.network.state_dict().items())
    tuned.save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned", base=base)  # type: ignore[arg-type]  # a model made in memory
    asked = "What is 1?"
    assert again.score([asked], [["It is 1"]]) == tuned.score([asked], [["It is 1"]])


def test_tuned_on_it_begins_at_the_model_given(tiny_model: TinyModel) -> None:
    told = [{"q": r.inputs["q"], "target": r.candidates[0]} for r in ROWS]
    first = SFTTrainer(adapter=LoRA(rank=4), settings=Settings(**QUICK)).fit(tiny_model(), told, prompt="{q}")
    before = weights(first)
    second = DPOTrainer(settings=Settings(**QUICK, max_steps=2)).fit(first, ROWS, prompt="{q}")
    assert second.history[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert all(torch.equal(before[name], p) for name, p in weights(first).items())
    assert any(not torch.equal(before[name], p) for name, p in weights(second).items())
    free = DPOTrainer(settings=Settings(**QUICK, max_steps=2), reference=tiny_model())
    assert abs(free.fit(first, ROWS, prompt="{q}").history[0]["drift_better"]) > 1e-3


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_small_batches_add_up_to_a_large_one(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    """Rows of unequal length and with unequal numbers of pairs. By plain gradients: Adam divides by their size, also
    where that is nothing but rounding."""
    rows = [*ROWS[:3], Ranking.pair({"q": "A pair?"}, "yes, it is one", "no")]
    base, settings = tiny_model(), {"max_steps": 2, **PLAIN}
    one = fit(base, rows, settings={**settings, "batch_size": 4}, **options)
    two = fit(base, rows, settings={**settings, "batch_size": 1, "accumulation": 4}, **options)
    for measured in ("loss", "grad_norm", "margin", "accuracy"):
        ours, theirs = one.history.series(measured)[1], two.history.series(measured)[1]
        assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-5)
    alike(one, two)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_sharing_the_prompt_changes_nothing(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    model = tiny_model()
    assert shareable(model.network)
    prepared = prepare_rankings(model, ROWS[:3], as_prompt("{q}"), Settings(), "training")
    found: Any = prepared.rows
    rows = found if options.get("reference_free") else with_references(found, model, torch.float32)
    network = LoRA(rank=4).attach(model.network)
    for parameter in trainable(network).values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    given = {"loss": "sigmoid", "beta": 0.1, "smoothing": 0.1, "margin": 0.0, "normalised": False, "sft_weight": 0.0}
    measure = PairObjective(**{**given, **{name: value for name, value in options.items() if name in given}})
    results = []
    for shared in (True, False):
        objective = Objective(network, measure, shared=shared, dtype=torch.float32)
        loss = objective(**collate(rows))["loss"]
        loss.backward()
        results.append(
            (loss.detach(), {n: p.grad.clone() for n, p in trainable(network).items() if p.grad is not None})
        )
        network.zero_grad()
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-4, rtol=1e-4)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(gradient, results[1][1][name], atol=1e-4, rtol=1e-3)


def test_what_is_watched(tiny_model: TinyModel) -> None:
    tuned = fit(tiny_model(), held=HELD, settings={"epochs": 2})
    names = {"margin", "accuracy", "drift_better", "drift_worse", "kl", "entropy", "prefers_longer", "tokens_better"}
    assert names | {f"eval_{name}" for name in names} <= set(tuned.history.names())
    assert last(tuned, "margin") > 0.1
    assert last(tuned, "kl") > 0
    assert last(tuned, "drift_better") > last(tuned, "drift_worse")
    assert 0 < last(tuned, "entropy") < math.log(512)


def test_without_a_reference_there_is_no_drift(tiny_model: TinyModel) -> None:
    """The better ones' own log-probabilities are a curve of another name, and no sign of anything."""
    tuned = fit(tiny_model(), held=HELD, settings={"epochs": 1}, reference_free=True, normalised=True)
    names = set(tuned.history.names())
    assert {"logprob_better", "logprob_worse", "eval_logprob_better"} <= names
    assert not {"drift_better", "drift_worse", "kl", "eval_drift_better"} & names
    assert last(tuned, "logprob_better") < -0.2
    assert not any("has lost" in sign for sign in hacking_signs(tuned.history))


def test_it_stops_when_the_better_ones_get_unlikely(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    """A model that has learned the better ones has them to lose."""
    rows = [Ranking.pair({"q": r.inputs["q"]}, r.candidates[0], r.candidates[0] + " it is it is") for r in ROWS]
    known = [Example(r.inputs, r.candidates[0]) for r in rows]
    sure = SFTTrainer(LoRA(rank=4), Settings(**QUICK, epochs=12)).fit(tiny_model(), known, prompt="{q}")
    options = {"loss": "ipo", "beta": 0.01, "stop_drift": 0.5}
    with caplog.at_level(logging.WARNING):
        tuned = fit(sure, rows, settings={"epochs": 4, "learning_rate": 3e-2}, **options)
    steps = tuned.history.series("loss")[0]
    assert steps[-1] < 24
    assert last(tuned, "drift_better") < -0.5
    assert "stop_drift=0.5" in caplog.text


def test_it_goes_on_where_it_was(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model()
    whole = fit(base, settings={"epochs": 2})
    fit(base, settings={"epochs": 2, "output": tmp_path / "run", "save_every": 5})
    for folder in (tmp_path / "run").glob("checkpoint-1*"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    for file in (tmp_path / "run" / "finished").iterdir():
        file.unlink()
    (tmp_path / "run" / "finished").rmdir()
    resumed = fit(base, settings={"epochs": 2, "output": tmp_path / "run", "save_every": 5})
    assert all(torch.equal(p, weights(whole)[name]) for name, p in weights(resumed).items())
    with pytest.raises(SettingsError, match="holds checkpoints of another run; it differs in beta"):
        fit(base, beta=0.2, settings={"epochs": 2, "output": tmp_path / "run", "save_every": 5})


def test_a_run_with_another_reference_is_another_run(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, settings = tiny_model(), {"max_steps": 1, "output": tmp_path / "run"}
    edited = LocalModel(tiny_model().network, base.tokenizer, source=base.source)
    edited.network.get_submodule("lm_head").weight.data[5] += 1.0
    fit(base, settings=settings, reference=tiny_model())
    fit(base, settings=settings, reference=tiny_model())
    with pytest.raises(SettingsError, match="it differs in reference"):
        fit(base, settings=settings, reference=edited)
    with pytest.raises(SettingsError, match="it differs in stop_drift"):
        fit(base, settings=settings, reference=tiny_model(), stop_drift=0.5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([Ranking.pair({"q": "a"}, "x", "x")], "row 0: candidates that are all the same"),
        ([Ranking.pair({"q": "a"}, "x", "")], "row 0: an empty candidate"),
        ([Ranking({"q": "a"}, ("x", "y"), (1.0, 1.0))], "no training rows left: 1 with all candidates tied"),
        ([Ranking.pair({"p": "a"}, "x", "y")], "row 0: the prompt needs the column 'q'"),
        ([Ranking.pair({"q": "a " * 600}, "x", "y")], "row 0 has .* tokens, the limit is 512"),
        ([{"q": "a", "chosen": "x"}], "no preferences are known by the columns"),
        ([], "the data is empty"),
    ],
)
def test_bad_rows(tiny_model: TinyModel, rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit(tiny_model(), rows)


def test_long_rows_are_trimmed_alike_or_dropped(tiny_model: TinyModel) -> None:
    rows = [Ranking({"q": "the sky " * 300}, ("yes", "no " * 20, "perhaps")), *ROWS[:2]]
    trimmed = fit(tiny_model(), rows, settings={"max_steps": 1, "too_long": "trim", "max_length": 128})
    dropped = fit(tiny_model(), rows, settings={"max_steps": 1, "too_long": "drop", "max_length": 128})
    assert trimmed.contract is not None
    assert dropped.contract is not None
    assert (trimmed.contract.metrics["rows_trimmed"], trimmed.contract.rows) == (1, 3)
    assert (dropped.contract.metrics["rows_dropped"], dropped.contract.rows) == (1, 2)


def test_no_row_is_longer_than_the_context(tiny_model: TinyModel) -> None:
    with pytest.raises(DataError, match=r"row 0 has .* tokens, the limit is 512"):
        fit(tiny_model(), [Ranking.pair({"q": "a " * 600}, "x", "y")], settings={"max_length": 5000})


def test_a_reference_from_another_base(tiny_model: TinyModel) -> None:
    with pytest.raises(ContractError, match="the reference stands on another base"):
        fit(tiny_model(), reference=tiny_model("qwen2"))
    other = tiny_model()
    other.tokenizer.add_tokens(["zebra"])
    with pytest.raises(ContractError, match="the reference has another tokenizer"):
        fit(tiny_model(), reference=other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "sigmiod"}, "loss='sigmiod': give one of sigmoid, ipo"),
        ({"beta": 0}, "beta=0: give a number above 0"),
        ({"smoothing": 0.5}, "smoothing=0.5"),
        ({"pairs": "some"}, "pairs='some'"),
        ({"sft_weight": -1}, "0 or more"),
        ({"stop_drift": -1}, "stop_drift=-1"),
        (
            {"stop_drift": 0.2, "reference_free": True},
            "a distance from the reference, and reference_free=True has none",
        ),
        ({"smoothing": 0.2}, "smoothing belongs to loss='robust' and 'conservative', and would do nothing here"),
        ({"smoothing": "0.2", "loss": "robust"}, "smoothing='0.2': give a number"),
        ({"margin": 1.0, "loss": "ipo"}, "loss='ipo' has its own margin"),
        ({"sft_weight": "1"}, "sft_weight='1': give a number, 0 or more"),
        ({"sft_weight": math.nan}, "sft_weight=nan: give a number, 0 or more"),
        ({"reference": "base"}, "no loaded model"),
        ({"reference_free": "no"}, "reference_free='no': give True or False"),
        ({"normalised": 1}, "normalised=1: give True or False"),
    ],
)
def test_bad_settings(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        DPOTrainer(**options)
