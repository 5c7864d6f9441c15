"""DPO's losses and curves on a real network, from its own log-probabilities and the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.prefix_sharing.probe import shareable
from condition.training.candidates import Candidates, Pair
from condition.training.objective import Objective
from condition.training.preference import PairObjective
from condition.training.rows import collate
from tests.conftest import Tiny, TinyModel
from tests.training.test_preference import fit

BETA, SMOOTHING = 0.3, 0.2
COMMON = tuple(range(40, 70))
BARE = [
    Candidates((5, *COMMON), ((8, 9, 11, 2), (10, 2), (12, 13, 2)), (Pair(0, 1), Pair(0, 2), Pair(1, 2)), count=3),
    Candidates((6, *COMMON), ((12, 2), (10, 11, 14, 15, 2)), (Pair(0, 1),), count=1),
]


def minus_log_sigmoid(x: float) -> float:
    return math.log(1 + math.exp(-x))


def robust(d: float) -> float:
    right, wrong = minus_log_sigmoid(BETA * d), minus_log_sigmoid(-BETA * d)
    return ((1 - SMOOTHING) * right - SMOOTHING * wrong) / (1 - 2 * SMOOTHING)


def conservative(d: float) -> float:
    return (1 - SMOOTHING) * minus_log_sigmoid(BETA * d) + SMOOTHING * minus_log_sigmoid(-BETA * d)


def sigmoid(d: float) -> float:
    return minus_log_sigmoid(BETA * d)


KINDS: list[tuple[dict[str, Any], Callable[[float], float]]] = [
    ({}, sigmoid),
    ({"loss": "hinge"}, lambda d: max(0.0, 1 - BETA * d)),
    ({"loss": "robust"}, robust),
    ({"loss": "conservative"}, conservative),
    ({"loss": "ipo", "normalised": True}, lambda d: (d - 1 / (2 * BETA)) ** 2),
    ({"normalised": True}, sigmoid),
    ({"margin": 0.4}, lambda d: minus_log_sigmoid(BETA * d - 0.4)),
    ({"sft_weight": 0.7}, sigmoid),
]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize(("options", "loss"), KINDS, ids=[str(options) for options, _ in KINDS])
def test_losses(
    tiny: Tiny, options: dict[str, Any], loss: Callable[[float], float], with_reference: bool, shared: bool
) -> None:
    base = tiny("llama")
    assert shareable(base)
    reference = [[_logprobs(base, row, c) for c in row.completions] for row in BARE]
    network = LoRA(rank=2).attach(base)
    for parameter in trainable(network).values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    rows = [
        Candidates(row.prompt, row.completions, row.pairs, None, row.count, tuple(tuple(one.tolist()) for one in own))
        if with_reference
        else row
        for row, own in zip(BARE, reference, strict=True)
    ]
    given = {"loss": "sigmoid", "beta": BETA, "smoothing": SMOOTHING, "margin": 0.0, "normalised": False}
    measure = PairObjective(**{**given, "sft_weight": 0.0, **options})
    objective = Objective(network, measure, shared=shared, dtype=torch.float32)
    found = objective(**collate(rows))["loss"]
    losses, better, worse, longer, prefers = [], [], [], [], []
    for row, known in zip(BARE, reference, strict=True):
        own = [_logprobs(network, row, completion) for completion in row.completions]
        ratios = [float(p.sum() - (q.sum() if with_reference else 0)) for p, q in zip(own, known, strict=True)]
        means = [ratio / len(p) for ratio, p in zip(ratios, own, strict=True)]
        scores = means if options.get("normalised") else ratios
        for i, j, _ in row.pairs:
            anchor = options.get("sft_weight", 0.0) * float(own[i].mean())
            losses.append(loss(scores[i] - scores[j]) - anchor)
            better.append(means[i])
            worse.append(means[j])
            longer.append(len(own[i]) > len(own[j]))
            prefers.append((scores[i] > scores[j]) == longer[-1])
    assert float(found.detach()) == pytest.approx(sum(losses) / 4, abs=1e-4)
    curves = {name: total / count for name, (total, count) in objective.watched.take(training=True).items() if count}
    name = "drift" if with_reference else "logprob"
    assert curves[f"{name}_better"] == pytest.approx(sum(better) / 4, abs=1e-4)
    assert curves[f"{name}_worse"] == pytest.approx(sum(worse) / 4, abs=1e-4)
    assert curves["longer_is_better"] == sum(longer) / 4
    assert curves["prefers_longer"] == sum(prefers) / 4


def test_ipo_goes_by_tokens(tiny_model: TinyModel) -> None:
    """In any case; with the others that has to be asked for."""
    losses = {
        (loss, normalised): fit(
            tiny_model(), settings={"max_steps": 3}, loss=loss, normalised=normalised
        ).history.series("loss")[1][-1]
        for loss in ("ipo", "sigmoid")
        for normalised in (True, False)
    }
    assert losses["ipo", True] == losses["ipo", False]
    assert losses["sigmoid", True] != pytest.approx(losses["sigmoid", False], abs=1e-4)


def _logprobs(network: Any, row: Candidates, completion: tuple[int, ...]) -> torch.Tensor:
    ids = torch.tensor([[*row.prompt, *completion]])
    with torch.no_grad():
        logs = network(input_ids=ids).logits[0].log_softmax(-1)
    return logs[row.start - 1 : -1].gather(1, torch.tensor(completion)[:, None])[:, 0]
