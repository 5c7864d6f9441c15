"""PRO: the paper's formula on a real network, what it teaches, and that batches add up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import DataError, SettingsError
from condition.models.local import LocalModel
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.training.candidates import prepare_rankings
from condition.training.objective import Objective
from condition.training.pro import PROTrainer, RankingObjective
from condition.training.rows import collate
from condition.training.settings import Settings
from condition.types import Ranking
from tests.conftest import TinyModel
from tests.training.test_preference import PLAIN, QUICK, ROWS, alike, last


def fit(model: LocalModel, rows: Any = ROWS, settings: Any = None, **options: Any) -> LocalModel:
    trainer = PROTrainer(LoRA(rank=4), Settings(**{**QUICK, **(settings or {})}), **options)
    return trainer.fit(model, rows, prompt="{q}")


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_by_hand(tiny_model: TinyModel, shared: bool) -> None:
    """Of two rankings of three and two: PRO's contrasts of mean log-probabilities, and 0.05 (K - 1)^2 of the best."""
    model = tiny_model()
    assert shareable(model.network)
    rows = [ROWS[1], Ranking.pair({"q": "A pair?"}, "yes, it is one", "no")]
    prepared: Any = prepare_rankings(model, rows, as_prompt("{q}"), Settings(), "training", by_pair=False).rows
    loss = Objective(model.network, RankingObjective(None, False), shared=shared, dtype=torch.float32)(
        **collate(prepared)
    )["loss"]
    expected = 0.0
    for ranking in rows:
        scores = model.score([ranking.inputs["q"]] * len(ranking.candidates), [[c] for c in ranking.candidates])
        means = [_mean(model, ranking.inputs["q"], c) for c in ranking.candidates]
        assert len(scores) == len(means)
        for k in range(len(means) - 1):
            expected -= means[k] - math.log(sum(math.exp(m) for m in means[k:]))
        expected -= 0.05 * (len(means) - 1) ** 2 * means[0]
    assert float(loss.detach()) == pytest.approx(expected / 2, abs=1e-4)
    watched = RankingObjective(None, False)(model.network, prepared, shared).watched
    assert watched["tokens_best"].tolist() == [len(row.completions[0]) for row in prepared]
    best = [_mean(model, ranking.inputs["q"], ranking.candidates[0]) for ranking in rows]
    assert watched["best_logprob"].tolist() == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("graded", [True, False])
def test_grades_weigh_where_they_are_asked_to(tiny_model: TinyModel, graded: bool) -> None:
    """T_kk and T_ki of equation 7 for two candidates that are 4 apart: both 1/4."""
    model = tiny_model()
    row = Ranking({"q": "A pair?"}, ("yes, it is one", "no"), (5.0, 1.0))
    prepared: Any = prepare_rankings(model, [row], as_prompt("{q}"), Settings(), "training", by_pair=False).rows
    measured = RankingObjective(0.0, graded)(model.network, prepared, False)
    high = [replace(prepared[0], grades=(2.0**26 + 5, 2.0**26 + 1))]  # in float32 no more than rounding apart
    assert torch.equal(RankingObjective(0.0, graded)(model.network, high, False).loss, measured.loss)
    good, bad = (_mean(model, "A pair?", text) for text in row.candidates)
    times = 4 if graded else 1
    expected = math.log(1 + math.exp(times * (bad - good)))
    assert float(measured.loss.detach()) == pytest.approx(expected, abs=1e-4)
    assert measured.watched["longer_is_better"].tolist() == [1.0]
    assert measured.watched["prefers_longer"].tolist() == [float(good > bad)]
    assert float(measured.watched["margin"]) == pytest.approx(good - bad, abs=1e-4)


def _mean(model: LocalModel, question: str, candidate: str) -> float:
    """Mean log-probability of the candidate's tokens and the stop token, by the network itself."""
    rendered = model.render(question, candidate)
    ids, start = torch.tensor([rendered.ids]), len(rendered.prompt_ids)
    with torch.no_grad():
        logs = model.network(input_ids=ids).logits[0].log_softmax(-1)
    return float(logs[start - 1 : -1].gather(1, ids[0, start:, None]).mean())


@pytest.mark.parametrize("options", [{}, {"sft_weight": 0.0}, {"graded": True}], ids=str)
def test_it_learns_the_order(tiny_model: TinyModel, options: dict[str, Any]) -> None:
    rows = [Ranking(r.inputs, r.candidates, (3, 2, 1.5)) for r in ROWS] if options.get("graded") else ROWS
    tuned = fit(tiny_model(), rows, settings={"epochs": 8, "schedule": "cosine"}, **options)
    losses = tuned.history.series("loss")[1]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert last(tuned, "accuracy") == 1.0
    assert last(tuned, "best_logprob") > tuned.history.series("best_logprob")[1][0]


def test_small_batches_add_up_to_a_large_one(tiny_model: TinyModel) -> None:
    rows = [*ROWS[:3], Ranking.pair({"q": "A pair?"}, "yes, it is one", "no")]
    base, settings = tiny_model(), {"max_steps": 2, **PLAIN}
    one = fit(base, rows, settings={**settings, "batch_size": 4})
    two = fit(base, rows, settings={**settings, "batch_size": 1, "accumulation": 4})
    for measured in ("loss", "grad_norm", "margin"):
        assert one.history.series(measured)[1] == pytest.approx(two.history.series(measured)[1], abs=1e-5, rel=1e-5)
    alike(one, two)


def test_a_tie_teaches_nothing(tiny_model: TinyModel) -> None:
    """Where the first two of three are tied, exchanging them changes no contrast."""
    model = tiny_model()
    network = LoRA(rank=2).attach(model.network)
    measure = RankingObjective(0.0, False)
    found = []
    for texts in (("yes", "no", "perhaps"), ("no", "yes", "perhaps")):
        rows = [Ranking({"q": "Well?"}, texts, (1.0, 1.0, 0.0))]
        prepared: Any = prepare_rankings(model, rows, as_prompt("{q}"), Settings(), "training", by_pair=False).rows
        found.append(Objective(network, measure, shared=False, dtype=torch.float32)(**collate(prepared))["loss"])
    torch.testing.assert_close(found[0], found[1])
    assert trainable(network)


def test_grades_are_asked_for_where_they_count(tiny_model: TinyModel) -> None:
    with pytest.raises(DataError, match="training row 0 has no scores, by which graded=True goes"):
        fit(tiny_model(), graded=True)


def test_bad_settings() -> None:
    with pytest.raises(SettingsError, match="graded='no': give True or False"):
        PROTrainer(graded="no")  # type: ignore[arg-type]  # what the message is for
    for wrong in (-1, "1", math.inf):
        with pytest.raises(SettingsError, match="sft_weight="):
            PROTrainer(sft_weight=wrong)  # type: ignore[arg-type]  # what the message is for
    with pytest.raises(SettingsError, match=r"give PROTrainer\(settings=cd.Settings"):
        PROTrainer(Settings())  # type: ignore[arg-type]  # what the message is for
