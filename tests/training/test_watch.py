"""A measure of one's own chooses the weights that come out, and moves nothing else."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import condition as cd
from condition.adapters.attach import trainable
from condition.errors import ModelError, SettingsError
from condition.prompts.template import as_prompt
from condition.training.checkpoints import is_complete
from condition.training.engine import Engine
from condition.training.watch import Asked, asking, number_of
from tests.conftest import TinyModel

ROWS = [cd.Example({"q": f"What is {i}?"}, f"It is {i}") for i in range(4)]
HELD = [cd.Example({"q": "What is 9?"}, "It is 9")]
SETTINGS = cd.Settings(max_steps=4, eval_every=1, batch_size=2, learning_rate=1e-2, schedule="constant", warmup=0.0)


def test_it_says_which_weights_are_the_best(tiny_folder: Path) -> None:
    base = cd.load(tiny_folder)
    modes: list[bool] = []

    def watch(model: cd.LocalModel) -> float:
        model.generate(["What is 1?"], cd.Sampling(max_tokens=2, temperature=1.0))
        torch.rand(3)
        modes.append(model.network.training)
        return -abs(len(modes) - 3.0)  # the second is the best, behind the one before the first step

    trainer = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS)
    plain = trainer.fit(base, ROWS, prompt="{q}", validation=HELD)
    tuned = trainer.fit(base, ROWS, prompt="{q}", validation=HELD, watch=watch)
    assert [line["eval_watch"] for line in tuned.history if "eval_watch" in line] == [-1.0, 0.0, -1.0, -2.0]
    assert len(modes) == 5
    assert not any(modes)
    assert tuned.history.series("loss") == plain.history.series("loss")
    assert tuned.contract is not None
    assert tuned.contract.metrics["best_watch"] == 0.0
    two = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS.model_copy(update={"max_steps": 2, "eval_every": None})).fit(
        base, ROWS, prompt="{q}"
    )
    best = trainable(two.network)
    assert all(torch.equal(best[name], tensor) for name, tensor in trainable(tuned.network).items())


def test_what_is_watched_is_what_is_served(tiny_folder: Path) -> None:
    def watch(model: cd.LocalModel) -> float:
        return model.score(["What is 1?"], [["It is 1"]])[0][0].logprob

    tuned = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS).fit(
        cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=watch
    )
    assert tuned.contract is not None
    assert tuned.contract.metrics["best_watch"] == watch(tuned)  # in whatever precision it was trained


def test_patience_is_of_what_is_watched(tiny_folder: Path) -> None:
    falling = iter([9.0, 3.0, 2.0, 1.0, 0.0])  # the first before the first step, which counts for nothing
    trainer = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS.model_copy(update={"patience": 1}))
    tuned = trainer.fit(cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=lambda model: next(falling))
    assert [line["eval_watch"] for line in tuned.history if "eval_watch" in line] == [3.0, 2.0]


def test_it_needs_validation_and_gives_numbers(tiny_folder: Path) -> None:
    trainer = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS)
    with pytest.raises(SettingsError, match="validation=rows"):
        trainer.fit(cd.load(tiny_folder), ROWS, prompt="{q}", watch=lambda model: 1.0)
    with pytest.raises(ModelError, match=r"before the first step: watch gave nan, .*: give a finite number; nothing"):
        trainer.fit(cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=lambda model: math.nan)


@pytest.mark.parametrize("given", ["x", "0.5", None, [1.0, 2.0], torch.zeros(2), {"f1": 1.0}])
def test_what_is_no_number_is_refused_before_the_first_step(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, given: Any
) -> None:
    """A validation may be an epoch away."""
    steps: list[int] = []
    trainer = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS)
    monkeypatch.setattr(Engine, "training_step", lambda *given, **options: steps.append(1))
    with pytest.raises(
        SettingsError, match=r"before the first step: watch gave .*, which is no number: give a function"
    ):
        trainer.fit(cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=lambda model: given)
    assert not steps


def test_what_it_draws_moves_nothing_and_nothing_is_kept_to_learn_from() -> None:
    grads: list[bool] = []

    def ask() -> float:
        grads.append(torch.is_grad_enabled())
        return float(torch.rand(()))

    asked = Asked(ask, 3)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    asked.ahead()
    assert asked.at(1) == asked.at(2)
    assert torch.equal(torch.rand(3), expected)
    assert grads == [False] * 3


@pytest.mark.parametrize("given", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_measure(given: float) -> None:
    with pytest.raises(ModelError, match=r"step 7: watch gave .*, which is no measure"):
        Asked(lambda: given, 0).at(7)
    with pytest.raises(ModelError, match=r"before the first step: watch gave .*, which is no measure"):
        Asked(lambda: given, 0).ahead()


def test_what_it_raises_is_told_with_its_step(tiny_folder: Path, tmp_path: Path) -> None:
    right = iter([1, 1, 0])
    settings = SETTINGS.model_copy(update={"output": str(tmp_path / "run")})
    with pytest.raises(
        ModelError, match=r"^step 2: watch raised ZeroDivisionError: division by zero; checkpoints written before are"
    ) as caught:
        cd.SFTTrainer(cd.LoRA(rank=2), settings).fit(
            cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=lambda model: 1 / next(right)
        )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert is_complete(tmp_path / "run" / "checkpoint-1")
    with pytest.raises(
        ModelError, match=r"^before the first step: watch raised ZeroDivisionError: .*; nothing is lost"
    ):
        Asked(lambda: 1 / 0, 0).ahead()


def test_what_is_asked_is_the_model_but_for_its_network_and_prompt(tiny_model: TinyModel) -> None:
    base = tiny_model()
    seen: list[cd.LocalModel] = []
    given = cd.LocalModel(
        base.network, base.tokenizer, source=base.source, quantization=cd.Quantization(bits=8), memory_bytes=1 << 20
    )
    network, prompt = tiny_model().network, as_prompt("{q}")

    def watch(model: cd.LocalModel) -> float:
        seen.append(model)
        return 1.0

    ask = asking(watch, given, prompt, network)
    assert ask is not None
    assert ask() == 1.0
    for name in ("source", "quantization", "memory_bytes", "tokenizer"):
        assert getattr(seen[0], name) == getattr(given, name)
    assert (seen[0].network, seen[0].prompt) == (network, prompt)


def test_numbers_of_other_libraries_are_numbers() -> None:
    for given in (1, True, np.float32(1), torch.ones(()), torch.ones(1)):
        assert number_of(given, "step 1") == 1.0


def test_what_can_not_be_asked(tiny_folder: Path) -> None:
    trainer = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS)
    with pytest.raises(SettingsError, match=r"watch=0\.5 is no function: give a function of the model"):
        trainer.fit(cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=0.5)  # type: ignore[arg-type]


def test_a_run_that_goes_on_is_not_asked_again(tiny_folder: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def watch(model: cd.LocalModel) -> float:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return float(len(asked))

    trainer = cd.SFTTrainer(cd.LoRA(rank=2), SETTINGS.model_copy(update={"output": tmp_path / "run"}))
    for _ in range(2):
        with suppress(KeyboardInterrupt):
            trainer.fit(cd.load(tiny_folder), ROWS, prompt="{q}", validation=HELD, watch=watch)
    assert len(asked) == 3 + 3  # ahead, at steps 1 and 2; at steps 2, 3 and 4


def test_a_task_is_watched(tiny_folder: Path) -> None:
    rows = [{"question": "What is 1?", "choices": ["one", "two"], "answer": 0}] * 3
    watch = cd.watcher(cd.tasks.multiple_choice(rows), rows=2)
    trainer = cd.DPOTrainer(adapter=cd.LoRA(rank=2), settings=SETTINGS.model_copy(update={"max_steps": 1}))
    pairs = [cd.Ranking.pair({"question": f"{i}?"}, "yes", "no") for i in range(3)]
    tuned = trainer.fit(cd.load(tiny_folder), pairs[:2], prompt="{question}", validation=pairs[2:], watch=watch)
    assert tuned.contract is not None
    assert 0.0 <= tuned.contract.metrics["best_watch"] <= 1.0
