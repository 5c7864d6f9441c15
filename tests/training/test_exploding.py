"""A training that has exploded and gives finite numbers is stopped; one that begins badly, or has a bad row, is not."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from condition.adapters.full import FullFineTuning
from condition.adapters.lora import LoRA
from condition.adapters.soft_prompts import PromptTuning
from condition.errors import ModelError
from condition.models.local import LocalModel
from condition.training.exploding import Exploding, of_pairs, of_tokens
from condition.training.hindsight import HindsightTrainer
from condition.training.kto import KTOTrainer
from condition.training.objective import Objective
from condition.training.preference import DPOTrainer
from condition.training.pro import PROTrainer
from condition.training.reward import RewardTrainer
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer, likelihood
from tests.conftest import Tiny, TinyModel
from tests.training.test_fit import QUICK, ROWS, fit
from tests.training.test_kto import THUMBS
from tests.training.test_preference import ROWS as RANKINGS

SAYS = r"step \d+: the training has exploded: .* Lower Settings\.learning_rate; checkpoints written before are intact"
TRAINERS: list[tuple[Any, Any]] = [
    (SFTTrainer, ROWS),
    (DPOTrainer, RANKINGS),
    (PROTrainer, RANKINGS),
    (KTOTrainer, THUMBS),
    (HindsightTrainer, RANKINGS),
    (RewardTrainer, RANKINGS),
]


@pytest.mark.parametrize(("trainer", "rows"), TRAINERS, ids=lambda value: getattr(value, "__name__", ""))
def test_weights_that_fp16_can_not_hold(tiny_model: TinyModel, trainer: Any, rows: Any) -> None:
    settings = Settings(**{**QUICK, "learning_rate": 1e9, "max_steps": 12, "log_every": 10})
    with pytest.raises(ModelError, match=SAYS):
        trainer(adapter=LoRA(rank=4), settings=settings).fit(tiny_model(), rows, prompt="{q}")


@pytest.mark.parametrize("rate", [1e9, 1e13, 3e17])
@pytest.mark.parametrize("log_every", [1, 10])
def test_rates_whose_numbers_all_stay_finite(tiny_model: TinyModel, rate: float, log_every: int) -> None:
    with pytest.raises(ModelError, match=SAYS):
        fit(tiny_model(), learning_rate=rate, max_steps=12, warmup=0.5, log_every=log_every)


def knowing(tiny_model: TinyModel) -> LocalModel:
    """A network that has learned its rows well and is loud about it, so that it can be wrong as loudly."""
    base = fit(tiny_model(), adapter=FullFineTuning(), epochs=10)
    with torch.no_grad():
        base.network.lm_head.weight.mul_(4)
    return fit(base, adapter=FullFineTuning(), epochs=4, learning_rate=1e-3)


def test_what_was_known_is_unlearned(tiny_model: TinyModel) -> None:
    """At this rate no weight is large; what is said of the rows is far below what a blind guess would give them."""
    base = knowing(tiny_model)
    with pytest.raises(ModelError, match=r"in most of 10 steps the network was no better than one that knows nothing"):
        fit(base, adapter=FullFineTuning(), learning_rate=3.0, max_steps=40)
    fit(base, adapter=FullFineTuning(), learning_rate=1e-3, max_steps=15)


def test_soft_prompts_may_begin_far_off(tiny_model: TinyModel) -> None:
    """Of a network that is loud and knows nothing: absurd for more than ten steps, and never better than that."""
    base = tiny_model()
    with torch.no_grad():
        base.network.lm_head.weight.mul_(100)
    tuned = fit(base, adapter=PromptTuning(length=4), learning_rate=0.01, max_steps=15)
    losses = tuned.history.series("loss")[1]
    assert min(losses) > 2 * math.log(512)
    assert losses[-1] < losses[0]


@pytest.mark.real
def test_the_embedded_model_at_a_rate_of_one(embedded: LocalModel) -> None:
    """Its weights stay below a hundred, and it says the same of all tokens."""
    with pytest.raises(ModelError, match=r"step 1\d: the training has exploded: in most of 10 steps"):
        fit(embedded, learning_rate=1.0, max_steps=16, batch_size=2)


# The signs by themselves


class Run:
    """Steps that gave so many times the absurd, looked at as the engine does."""

    def __init__(self, tiny: Tiny) -> None:
        self.objective = Objective(tiny("llama"), likelihood, shared=False, dtype=torch.float32)
        self.state, self.sign = TrainerState(), Exploding()
        self.begin()

    def begin(self) -> None:
        self.sign.on_train_begin(None, self.state, None)

    def steps(self, *shares: float, writes: bool = False) -> None:
        for share in shares:
            self.objective.surprise.add({"share": torch.tensor([share, share])}, training=True)
            control = TrainerControl(should_save=writes)
            device = SimpleNamespace(device=torch.device("cpu"))
            self.sign.on_step_end(device, self.state, control, model=self.objective)


@pytest.mark.parametrize(
    "shares",
    [
        [3.0] * 40,  # rounded to two bits
        [9.0 - 0.2 * i for i in range(40)],  # a soft prompt that begins far off
        [0.3] * 20 + [50.0, 0.3] + [5.0, *[0.3] * 9] * 3,  # rows of noise, one at a time
        [0.05] * 20 + [0.95] * 40,  # what is learned is forgotten, and nobody knows anything
    ],
    ids=["high", "falling", "noise", "forgotten"],
)
def test_no_explosion(tiny: Tiny, shares: list[float]) -> None:
    Run(tiny).steps(*shares)


def test_most_of_ten_steps_are_one(tiny: Tiny) -> None:
    run = Run(tiny)
    run.steps(*[0.4] * 30, *[1.2] * 5)
    with pytest.raises(ModelError, match="has exploded"):
        run.steps(1.4)
    run = Run(tiny)
    run.steps(0.4, *[1.2] * 8)
    with pytest.raises(ModelError, match="has exploded"):
        run.steps(1.2)


def test_a_resumed_run_remembers(tiny: Tiny) -> None:
    first, second = Run(tiny), Run(tiny)
    first.steps(*[0.4] * 9, *[1.3] * 4)
    second.state.stateful_callbacks = json.loads(json.dumps({"Exploding": first.sign.state()}))
    second.begin()
    second.steps(1.3)
    with pytest.raises(ModelError, match="has exploded"):
        second.steps(1.3)


def test_a_checkpoint_of_before_there_was_this_sign(tiny: Tiny) -> None:
    run = Run(tiny)
    run.state.stateful_callbacks = {}
    run.begin()
    assert run.state.stateful_callbacks["Exploding"]["args"] == {"recent": [], "lowest": None}


def test_weights_are_looked_at_where_something_is_written(tiny: Tiny) -> None:
    run = Run(tiny)
    run.steps(0.5, writes=True)
    weight = run.objective.network.lm_head.weight
    with torch.no_grad():
        weight[3, 5] = 65504.0
    run.steps(0.5, writes=True)
    for value in (-65600.0, math.nan):
        with torch.no_grad():
            weight[3, 5] = value
        run.steps(0.5)
        told = f"a weight of network.lm_head.weight has become {abs(value):.3g}. "
        with pytest.raises(ModelError, match=re.escape(told)):
            run.steps(0.5, writes=True)


def test_what_is_absurd(tiny: Tiny) -> None:
    network = tiny("llama")
    nats, absurd = of_tokens(network, torch.tensor([-1.0, -20.0]))
    assert nats.tolist() == [1, 20]
    assert absurd == pytest.approx(0.9 * math.log(512))
    nats, absurd = of_pairs(torch.tensor([0.0, -200.0]), torch.tensor([0.0, 100.0]))
    assert nats.tolist() == pytest.approx([math.log(2), 300])
    assert absurd == 100
