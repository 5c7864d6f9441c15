"""What tuning costs, and after how many calls it pays."""

from __future__ import annotations

import math
from typing import Any

import pytest

from condition.adapters.lora import LoRA
from condition.errors import DataError
from condition.evaluation.compare import compare
from condition.evaluation.tasks.task import Task, TaskRow
from condition.evaluation.training_cost import trained
from condition.prompts.template import ChatPrompt, as_prompt
from condition.reasoning.self_consistency import SelfConsistency
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example, Sampling


def task(count: int, **changes: Any) -> Task:
    rows = [TaskRow(str(i), {"q": f"Q{i}", "n": i}, f"A{i}") for i in range(count)]
    given: dict[str, Any] = {"metric": lambda p, t: {"same": float(p == t)}, **changes}
    return Task("t", rows, prompt=ChatPrompt([("user", "{q}")]), **given)


@pytest.fixture
def tuned(tiny_model: Any) -> tuple[Any, Any]:
    base = tiny_model("llama")
    examples = [Example({"q": f"Q{i}"}, f"A{i}") for i in range(4)]
    trainer = SFTTrainer(LoRA(rank=2), Settings(max_steps=2, batch_size=2))
    return base, trainer.fit(base, examples, prompt="{q}")


def test_what_tuning_costs(tuned: tuple[Any, Any]) -> None:
    base, model = tuned
    work = task(6, sampling=Sampling(max_tokens=3, temperature=0.0))
    chain = SelfConsistency(base.with_prompt("{q}"), samples=2, seed=0)
    table = compare(
        {"base": base, "LoRA": model, "pair": (model, "Say {q}"), "votes": chain, "f": lambda inputs: "x"}, work
    )
    parameters = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    assert table["base"].trained_parameters == table["votes"].trained_parameters == 0
    assert table["LoRA"].trained_parameters == table["pair"].trained_parameters == parameters
    assert table["LoRA"].training_seconds == model.contract.metrics["seconds"]
    assert (table["f"].trained_parameters, table["f"].input_tokens) == (None, None)
    usage = table.results["base"].usage
    assert table["base"].input_tokens == usage.input_tokens / 6
    assert table["base"].output_tokens == usage.output_tokens / 6
    assert table["base"].milliseconds == pytest.approx(1000 * table.results["base"].seconds / 6)
    assert table["LoRA"].break_even_with in ("base", "votes")
    assert table["f"].break_even is None


def test_what_two_tuned_models_cost_is_added_and_one_twice_counts_once(tuned: tuple[Any, Any]) -> None:
    base, one = tuned
    trainer = SFTTrainer(LoRA(rank=3), Settings(max_steps=1, batch_size=2))
    other = trainer.fit(base, [Example({"q": f"Q{i}"}, f"A{i}") for i in range(2)], prompt="{q}")
    found = trained([base, one, other, one])
    told = [model.contract.metrics for model in (one, other)]
    assert found.seconds == sum(own["seconds"] for own in told)
    assert found.parameters == sum(own["trained_parameters"] for own in told)


def test_break_even_by_hand(tuned: tuple[Any, Any]) -> None:
    base, model = tuned
    work = task(4, sampling=Sampling(max_tokens=2, temperature=0.0))
    table = compare({"base": base, "LoRA": model}, work)

    def timed(seconds: float | None, tuned_ms: float, base_ms: float) -> float:
        one = table["LoRA"].model_copy(update={"training_seconds": seconds, "milliseconds": tuned_ms})
        other = table["base"].model_copy(update={"milliseconds": base_ms})
        return table.model_copy(update={"methods": (other, one)}).break_even("LoRA", "base")

    assert timed(100.0, 50.0, 250.0) == 500  # 100 s at 0.2 s saved a call
    assert timed(0.1, 50.0, 51.0) == 100
    assert timed(0.0, 50.0, 51.0) == 0
    assert timed(100.0, 51.0, 51.0) == math.inf
    assert timed(0.0, 52.0, 51.0) == math.inf
    with pytest.raises(DataError, match="no record of its training time"):
        timed(None, 1.0, 2.0)
    with pytest.raises(DataError, match="no method 'prompt'; there are base, LoRA"):
        table.break_even("LoRA", "prompt")


@pytest.mark.parametrize("less", [False, True])
def test_break_even_is_told_against_the_best_that_is_not_tuned(tuned: tuple[Any, Any], less: bool) -> None:
    base, model = tuned
    work = task(
        4,
        metric=lambda said, target: {"length": float(len(said))},
        sampling=Sampling(max_tokens=6, temperature=0.0),
        less_is_better=("length",) * less,
    )
    plain = {f"prompt {i}": (base, f"{i} {{q}}") for i in range(4)}
    table = compare({**plain, "LoRA": model}, work)
    scores = {name: table[name].score.value for name in plain}
    assert len(set(scores.values())) > 1
    assert table["LoRA"].break_even_with == (min if less else max)(scores, key=lambda name: scores[name])


def test_break_even_is_not_told_against_what_was_stopped(tuned: tuple[Any, Any]) -> None:
    """It has a score of few rows only, however good."""
    base, model = tuned
    sampling = Sampling(max_tokens=4, temperature=0.0)
    replies = {
        name: {q: one.generate([prompt.format(q=q)], sampling)[0][0].text for q in "abc"}
        for name, one, prompt in (
            ("LoRA", model, as_prompt("{q}")),
            ("first", base, as_prompt("1 {q}")),
            ("second", base, as_prompt("2 {q}")),
        )
    }
    right = {*replies["LoRA"].values(), replies["second"]["a"]}
    assert not right & {*replies["first"].values(), replies["second"]["b"], replies["second"]["c"]}
    work = Task(
        "t",
        [TaskRow(str(i), {"q": "abc"[i % 3]}, "") for i in range(120)],
        lambda said, target: {"right": float(said in right)},
        prompt="{q}",
        sampling=sampling,
    )
    table = compare({"first": (base, "1 {q}"), "second": (base, "2 {q}"), "LoRA": model}, work, early=True)
    assert table["second"].stopped
    assert table["second"].score.value > table["first"].score.value == 0
    assert table["LoRA"].break_even_with == "first"
