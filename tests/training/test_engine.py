"""The engine's own parts: the watch, and settings turned into transformers' arguments."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from condition.errors import ModelError, SettingsError
from condition.training.arguments import OPTIMIZERS, arguments_for
from condition.training.progress import Progress
from condition.training.settings import Settings

CPU = torch.device("cpu")


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_stops_before_the_step(poison: float) -> None:
    layer = torch.nn.Linear(2, 2)
    layer.weight.grad = torch.tensor([[0.0, poison], [0.0, 0.0]])
    with pytest.raises(ModelError, match=r"step 4: the gradient of weight is not finite"):
        Progress().on_pre_optimizer_step(None, SimpleNamespace(global_step=3), None, model=layer)


def arguments(validates: bool = False, **options: Any) -> Any:
    return arguments_for(Settings(**options), Path("x"), 100, "eval_loss" if validates else None, CPU)


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its callback is begun, which would complain once more when it goes."""
    monkeypatch.setattr("condition.training.arguments.is_mlflow_available", lambda: False)
    with pytest.raises(SettingsError, match=r"report_to='mlflow' needs mlflow, .*: pip install mlflow"):
        arguments(report_to="mlflow")


def test_arguments_follow_the_settings() -> None:
    found = arguments(epochs=3, batch_size=4, accumulation=2, warmup=0.1, schedule="constant", clip=0.5, seed=7)
    assert (found.num_train_epochs, found.per_device_train_batch_size, found.gradient_accumulation_steps) == (3, 4, 2)
    assert (found.warmup_steps, found.lr_scheduler_type, found.max_grad_norm) == (0.1, "constant_with_warmup", 0.5)
    assert (found.seed, found.use_cpu, found.remove_unused_columns, found.report_to) == (7, True, False, [])
    found = arguments(batch_size=3, weight_decay=0.1, log_every=3, learning_rate=1e-3, patience=2)
    assert (found.per_device_eval_batch_size, found.weight_decay, found.logging_steps) == (3, 0.1, 3)
    assert (found.learning_rate, found.restore_callback_states_from_checkpoint) == (1e-3, True)
    assert arguments(max_steps=9).max_steps == 9
    assert arguments().max_steps == -1
    assert arguments(schedule="stable-decay", optimizer="sgd").optim == "sgd"


@pytest.mark.parametrize("name", ["adamw-8bit", "paged-adamw", "paged-adamw-8bit"])
def test_optimizers_that_need_a_gpu(name: str) -> None:
    with pytest.raises(SettingsError, match=f"optimizer='{name}' needs a GPU, the model is on the cpu: use 'adamw'"):
        arguments(optimizer=name)
    found = arguments_for(Settings(optimizer=name), Path("x"), 100, None, torch.device("cuda"))
    assert found.optim.value == OPTIMIZERS[name]


@pytest.mark.parametrize(
    ("options", "validates", "evaluates", "saves", "every"),
    [
        ({}, False, "no", "no", None),
        ({"output": "y"}, False, "no", "epoch", None),
        ({"output": "y", "save_every": 5}, False, "no", "steps", 5),
        ({}, True, "epoch", "epoch", None),
        ({"eval_every": 5}, True, "steps", "steps", 5),
        ({"eval_every": 5, "save_every": 10}, True, "steps", "steps", 10),
        ({"eval_every": 10, "save_every": 15}, True, "steps", "steps", 15),
        ({"save_every": 10}, True, "steps", "steps", 10),
    ],
)
def test_when_it_validates_and_saves(
    options: dict[str, Any], validates: bool, evaluates: str, saves: str, every: int | None
) -> None:
    found = arguments(validates, **options)
    assert (found.eval_strategy, found.save_strategy) == (evaluates, saves)
    assert found.load_best_model_at_end is validates
    if every is not None:
        assert found.save_steps == every
        assert not validates or found.eval_steps == options.get("eval_every", every)
