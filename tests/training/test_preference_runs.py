"""What all trainers on preferences have in common: which run is the same run, how long a row may be, whose curves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.adapters.reward_head import add_head
from condition.errors import DataError, SettingsError
from condition.prefix_sharing.logprobs import logprobs
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.training.candidates import prepare_rankings
from condition.training.hindsight import HindsightTrainer, prepare_chains, sentence
from condition.training.kto import KTOTrainer, ThumbObjective, prepare_thumbs
from condition.training.preference import DPOTrainer, PairObjective
from condition.training.pro import PROTrainer, RankingObjective
from condition.training.references import with_references
from condition.training.reward import RewardObjective, RewardTrainer, rewards_of
from condition.training.settings import Settings
from condition.types import Ranking
from tests.conftest import TinyModel
from tests.training.test_kto import THUMBS
from tests.training.test_preference import QUICK, ROWS

GRADED = [Ranking(row.inputs, row.candidates, (3.0, 2.0, 1.0)) for row in ROWS[:4]]
OTHER: list[tuple[Any, Any, dict[str, dict[str, Any]]]] = [
    (DPOTrainer, GRADED, {name: {name: value} for name, value in (("pairs", "best"), ("reference_free", True))}),
    (PROTrainer, GRADED, {"graded": {"graded": True}, "sft_weight": {"sft_weight": 0.5}}),
    (KTOTrainer, THUMBS[:4], {name: {name: 2.0} for name in ("beta", "good_weight", "bad_weight")}),
    (
        HindsightTrainer,
        GRADED,
        {
            "positive": {"positive": False},
            "sentences": {"sentence": lambda said: f"said: {said}"},
            "forget": {"forget": 0.5},
        },
    ),
    (
        RewardTrainer,
        GRADED,
        {
            "loss": {"loss": "ranking"},
            "centre": {"centre": 0.1},
            "margins": {"margins": True},
            "pairs": {"pairs": "best"},
        },
    ),
]


@pytest.mark.parametrize(("trainer", "rows", "others"), OTHER, ids=[case[0].__name__ for case in OTHER])
def test_another_option_is_another_run(
    tiny_model: TinyModel, tmp_path: Path, trainer: Any, rows: Any, others: dict[str, dict[str, Any]]
) -> None:
    base, settings = tiny_model(), Settings(**QUICK, max_steps=1, output=tmp_path / "run")
    made = partial(trainer, adapter=LoRA(rank=2), settings=settings)
    made().fit(base, rows, prompt="{q}")
    for name, options in others.items():
        other = made(**options)
        with pytest.raises(SettingsError, match=rf"it differs in (.*, )?{name}\b"):
            other.fit(base, rows, prompt="{q}")


PREPARED: dict[str, Any] = {
    "rankings": prepare_rankings,
    "thumbs": prepare_thumbs,
    "chains": partial(prepare_chains, sentence=sentence),
}


@pytest.mark.parametrize("kind", list(PREPARED))
def test_a_row_is_never_longer_than_the_context(tiny_model: TinyModel, kind: str) -> None:
    """Whatever `max_length` says; and the error names the row by its id."""
    rows = [Ranking({"q": "sky " * 600}, ("so", "no"), id="x7"), Ranking.pair({"q": "Why?"}, "so", "no")]
    prepare = partial(PREPARED[kind], tiny_model(), rows, as_prompt("{q}"), what="training")
    with pytest.raises(DataError, match=r"training row 0 \(x7\) has .* tokens, the limit is 512"):
        prepare(settings=Settings(max_length=10_000))
    left = prepare(settings=Settings(max_length=10_000, too_long="drop"))
    assert left.dropped == {"thumbs": 2}.get(kind, 1)
    assert max(len(row.ids) for row in left.rows) <= 512


def test_curves_of_both_sides_are_their_own(tiny_model: TinyModel) -> None:
    model = tiny_model()
    prepared: Any = prepare_rankings(model, ROWS[:2], as_prompt("{q}"), Settings(), "training").rows
    rows = with_references(prepared, model, torch.float32)
    lengths = [[float(len(c)) for c in row.completions] for row in rows]
    better = [own[i] for own, row in zip(lengths, rows, strict=True) for i, _, _ in row.pairs]
    worse = [own[j] for own, row in zip(lengths, rows, strict=True) for _, j, _ in row.pairs]
    pairs = PairObjective("sigmoid", 0.1, 0.0, 0.0, False, 0.0)(model.network, rows, False).watched
    assert pairs["tokens_better"].tolist() == better
    assert pairs["tokens_worse"].tolist() == worse
    assert better != worse
    ranked = RankingObjective(None, False)(model.network, rows, False).watched
    assert ranked["tokens_best"].tolist() == [own[0] for own in lengths]


def test_curves_of_thumbs_are_of_their_own_completions(tiny_model: TinyModel) -> None:
    """Of a policy 3 nats ahead of its reference, whose reward is `beta` times that."""
    model = tiny_model()
    rows: Any = prepare_thumbs(model, THUMBS[:4], as_prompt("{q}"), Settings(), "training").rows
    known = []
    for row in rows:
        with torch.no_grad():
            own, other = logprobs(model.network, row.sequences, [row.start] * 2, shared=False)
        known.append(replace(row, reference=(tuple((own - 3 / len(own)).tolist()), tuple(other.tolist()))))
    found = ThumbObjective(0.2, 1.0, 1.0)(model.network, known, False).watched
    assert found["tokens"].tolist() == [len(row.completions[0]) for row in rows]
    for name in ("reward_good", "reward_bad"):
        assert found[name].tolist() == pytest.approx([0.6, 0.6], abs=1e-4)


def test_rewards_are_watched_themselves_and_wide(tiny_model: TinyModel) -> None:
    model = tiny_model()
    assert shareable(model.network)
    network = LoRA(rank=2).attach(model.network)
    add_head(network)
    network.get_submodule("score").weight.data.normal_(generator=torch.Generator().manual_seed(0))
    rows: Any = prepare_rankings(model, ROWS[:2], as_prompt("{q}"), Settings(), "training").rows
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rewards = rewards_of(network, rows, True)
        watched = RewardObjective(True, 0.0, False)(network, rows, True).watched
    assert rewards.dtype == torch.float32
    assert not torch.equal(rewards, rewards.bfloat16().float())
    assert torch.equal(watched["reward"], rewards)
