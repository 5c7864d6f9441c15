"""Reward training: what it teaches, that batches add up, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.adapters.reward_head import add_head
from condition.errors import DataError, ModelError, SettingsError
from condition.models.local import LocalModel
from condition.models.reward import RewardModel
from condition.prompts.template import as_prompt
from condition.training.candidates import Candidates, Pair
from condition.training.pro import PROTrainer
from condition.training.reward import RewardObjective, RewardTrainer, rewards_of
from condition.training.settings import Settings
from condition.types import Ranking
from tests.conftest import Tiny, TinyModel
from tests.training.test_preference import HELD, PLAIN, QUICK, ROWS, alike, weights

KINDS: list[dict[str, Any]] = [{}, {"loss": "ranking"}, {"centre": 0.1}, {"margins": True}, {"pairs": "best"}]


def fit(model: Any, rows: Any = ROWS, held: Any = None, settings: Any = None, **options: Any) -> RewardModel:
    settings = {**QUICK, "learning_rate": 2e-3, **(settings or {})}
    trainer = RewardTrainer(LoRA(rank=4), Settings(**settings), **options)
    return trainer.fit(model, rows, prompt="{q}", validation=held)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_it_learns_what_is_better(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    base, of = tiny_model(), graded if options.get("margins") else list
    reward = fit(base, of(ROWS), of(HELD), settings={"epochs": 4}, **options)
    assert reward.history[0]["loss"] == pytest.approx(_at_zero(options), abs=1e-5)
    assert "eval_accuracy" in reward.history.names()
    assert reward.history[0]["accuracy"] == 0.5  # it has no opinion yet
    scores = [reward(row.inputs["q"], row.candidates) for row in ROWS]
    assert sum(s[0] > max(s[1:]) for s in scores) >= 10
    assert not hasattr(base.network, "score")


def graded(rows: list[Ranking]) -> list[Ranking]:
    return [Ranking(r.inputs, r.candidates, (2.0, 1.0, 0.5)[: len(r.candidates)]) for r in rows]


def _at_zero(options: dict[str, Any]) -> float:
    if options.get("margins"):  # differences 1, 1.5 and 0.5
        return sum(math.log(1 + math.exp(m)) for m in (1.0, 1.5, 0.5)) / 3
    return math.log(3) + math.log(2) if options.get("loss") == "ranking" else math.log(2)


ROW = Candidates(
    (5, 6, 7), ((8, 9, 11, 2), (10, 2), (12, 13, 2)), (Pair(0, 1, 2.0), Pair(0, 2, 2.0)), (3.0, 1.0, 1.0), count=2
)


@pytest.mark.parametrize(
    ("by_pair", "margins", "margin"), [(True, True, 2.0), (True, False, 0.0), (False, False, 0.0)], ids=str
)
def test_the_loss_by_hand(tiny: Tiny, by_pair: bool, margins: bool, margin: float) -> None:
    network = tiny("llama")
    add_head(network)
    network.get_submodule("score").weight.data.normal_(generator=torch.Generator().manual_seed(0))
    best, second, third = rewards = rewards_of(network, [ROW], shared=False).tolist()
    if by_pair:
        pairs = ((best, second), (best, third))
        expected = sum(math.log(1 + math.exp(b + margin - a)) + 0.1 * (a + b) ** 2 for a, b in pairs)
    else:  # the tied ones are not compared
        apart = math.log(sum(map(math.exp, rewards))) - best
        expected = apart + 0.1 * (2 * sum(rewards) / 3) ** 2
    measured = RewardObjective(by_pair, 0.1, margins)(network, [ROW], False)
    assert float(measured.loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert measured.watched["longer_is_better"].tolist() == [1.0, 1.0]
    assert measured.watched["prefers_longer"].tolist() == [float(best > other) for other in (second, third)]
    assert measured.watched["margin"].tolist() == pytest.approx([best - second, best - third], abs=1e-4)


def test_rewards_of_a_rounded_network_are_wide(tiny: Tiny) -> None:
    network = tiny("llama")
    add_head(network)
    network.get_submodule("score").weight.data.normal_(generator=torch.Generator().manual_seed(0))
    before = rewards_of(network, [ROW], shared=False)
    network.to(torch.bfloat16).get_submodule("score").float()
    rewards = rewards_of(network, [ROW], shared=False)
    assert rewards.dtype == torch.float32
    torch.testing.assert_close(rewards, before, atol=0.5, rtol=0.1)


def test_centred_rewards_stay_around_zero(tiny_model: TinyModel) -> None:
    free, centred = (fit(tiny_model(), settings={"epochs": 4}, centre=c) for c in (0.0, 1.0))
    means = [sum(sum(m(r.inputs["q"], r.candidates)) for r in ROWS) / (3 * len(ROWS)) for m in (free, centred)]
    assert abs(means[1]) < abs(means[0])


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_small_batches_add_up_to_a_large_one(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    rows = [*ROWS[:3], Ranking.pair({"q": "A pair?"}, "yes, it is one", "no")]
    rows = graded(rows) if options.get("margins") else rows
    base, settings = tiny_model(), {"max_steps": 2, **PLAIN}
    one = fit(base, rows, settings={**settings, "batch_size": 4}, **options).model
    two = fit(base, rows, settings={**settings, "batch_size": 1, "accumulation": 4}, **options).model
    for measured in ("loss", "grad_norm", "margin"):
        assert one.history.series(measured)[1] == pytest.approx(two.history.series(measured)[1], abs=1e-5, rel=1e-5)
    alike(one, two)


def test_the_network_drops_nothing(tiny_model: TinyModel) -> None:
    with_dropout, without = (fit(tiny_model(attention_dropout=p), settings={"max_steps": 3}) for p in (0.5, 0.0))
    losses = [model.history.series("loss")[1] for model in (with_dropout, without)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_which_pairs_it_learns_from(tiny_model: TinyModel) -> None:
    every, best = (fit(tiny_model(), settings={"max_steps": 3}, pairs=which) for which in ("all", "best"))
    ends = [model.history.series("loss")[1][-1] for model in (every, best)]
    assert abs(ends[0] - ends[1]) > 1e-4


def test_it_is_trained_on(tiny_model: TinyModel) -> None:
    first = fit(tiny_model(), settings={"max_steps": 3})
    before = weights(first.model)
    second = fit_on(first)
    assert second.history[0]["loss"] != pytest.approx(math.log(2), abs=1e-4)
    assert all(torch.equal(p, before[name]) for name, p in weights(first.model).items())


def fit_on(model: RewardModel) -> RewardModel:
    return RewardTrainer(settings=Settings(**QUICK, max_steps=1)).fit(model, ROWS, prompt="{q}")


def test_a_measure_of_rewards_chooses_the_weights(tiny_model: TinyModel) -> None:
    seen: list[tuple[float, float]] = []

    def watch(model: RewardModel) -> float:
        better, worse = model(HELD[0].inputs["q"], HELD[0].candidates)
        seen.append((better, worse))
        return -abs(len(seen) - 3.0)  # the second is the best, behind the one before the first step

    base, every = tiny_model(), {"max_steps": 4, "eval_every": 1}
    trainer = RewardTrainer(LoRA(rank=4), Settings(**{**QUICK, "learning_rate": 2e-3, **every}))
    reward = trainer.fit(base, ROWS, prompt="{q}", validation=HELD, watch=watch)
    assert reward.history.series("eval_watch")[1] == [-1.0, 0.0, -1.0, -2.0]
    assert reward(HELD[0].inputs["q"], HELD[0].candidates) == pytest.approx(seen[2])
    assert seen[2] != pytest.approx(seen[4], abs=1e-3)
    assert reward.contract is not None
    assert reward.contract.metrics["best_watch"] == 0.0


def test_margins_are_asked_for_where_they_count(tiny_model: TinyModel) -> None:
    with pytest.raises(DataError, match="training row 0 has no scores, by which margins=True goes"):
        fit(tiny_model(), margins=True)


def test_a_reward_model_is_no_model_that_writes(tiny_model: TinyModel) -> None:
    base = tiny_model()
    network = LoRA(rank=2).attach(base.network)
    add_head(network)
    reward: Any = RewardModel(LocalModel(network, base.tokenizer, source=base.source, prompt=as_prompt("{q}")))
    with pytest.raises(ModelError, match="it gives rewards and writes nothing; give the model that should write"):
        PROTrainer(settings=Settings(**QUICK)).fit(reward, ROWS, prompt="{q}")
    with pytest.raises(ModelError, match="was tuned to give rewards and writes nothing: PROTrainer takes its base"):
        PROTrainer(settings=Settings(**QUICK)).fit(reward.model, ROWS, prompt="{q}")


def test_a_network_without_a_head(tiny_model: TinyModel) -> None:
    model: LocalModel = tiny_model()
    with pytest.raises(ModelError, match="no reward head"):
        rewards_of(model.network, [], shared=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margins": "no"}, "margins='no': give True or False"),
        ({"loss": "pair"}, "loss='pair': give 'pairs' or 'ranking'"),
        ({"pairs": "some"}, "pairs='some'"),
        ({"centre": -1}, "centre=-1"),
        ({"centre": "0.1"}, "centre='0.1': give a number, 0 or more"),
        ({"loss": "ranking", "margins": True}, "belong to loss='pairs'"),
    ],
)
def test_bad_settings(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        RewardTrainer(**options)
