"""KTO: thumbs, the divergence that is a mean over a step, and what is no thumb."""

from __future__ import annotations

from typing import Any

import pytest

from condition.adapters.lora import LoRA
from condition.errors import DataError, SettingsError
from condition.models.local import LocalModel
from condition.prompts.template import as_prompt
from condition.training.kto import KTOTrainer, prepare_thumbs
from condition.training.settings import Settings
from condition.types import Feedback, Ranking
from tests.conftest import TinyModel
from tests.training.test_preference import PLAIN, QUICK, alike, last

THUMBS = [
    Feedback({"q": f"What is {i}? " + "sky " * (i % 5)}, f"It is {i}" if i % 2 else "no " * 3, i % 2 == 1)
    for i in range(12)
]


def fit(model: LocalModel, rows: Any = THUMBS, settings: Any = None, **options: Any) -> LocalModel:
    trainer = KTOTrainer(
        adapter=LoRA(rank=4), settings=Settings(**{**QUICK, "batch_size": 4, **(settings or {})}), **options
    )
    return trainer.fit(model, rows, prompt="{q}")


def test_it_learns_what_was_liked(tiny_model: TinyModel) -> None:
    tuned = fit(tiny_model(), settings={"epochs": 6})
    losses = tuned.history.series("loss")[1]
    assert losses[0] == pytest.approx(0.5, abs=1e-5)  # no divergence and no reward at the start
    assert sum(losses[-3:]) < sum(losses[:3])
    assert last(tuned, "reward_good") > last(tuned, "reward_bad")
    assert last(tuned, "divergence") >= 0


def test_a_row_stands_beside_the_next_ones_completion(tiny_model: TinyModel) -> None:
    model = tiny_model()
    same = [
        Feedback({"q": "Why?"}, "so", True),
        Feedback({"q": "Why?"}, "no", False),
        Feedback({"q": "Who?"}, "me", True),
    ]
    rows: Any = prepare_thumbs(model, same, as_prompt("{q}"), Settings(), "training").rows
    said = [[model.tokenizer.decode(c[:-1]) for c in row.completions] for row in rows]
    assert said == [["so", "me"], ["no", "me"], ["me", "so"]]  # never one of the same prompt
    assert [row.grades[0] for row in rows] == [1.0, 0.0, 1.0]


IN_PARTS: list[dict[str, Any]] = [{"batch_size": 2, "accumulation": 4}, {"batch_size": 8, "at_once": 3}]


@pytest.mark.parametrize("parts", IN_PARTS, ids=str)
def test_small_batches_add_up_to_a_large_one(tiny_model: TinyModel, parts: dict[str, Any]) -> None:
    """The divergence too is that of the whole step. By plain gradients: Adam divides by their size, also where that is
    nothing but rounding."""
    base = tiny_model()
    rows = [
        Feedback(thumb.inputs, "It is so" + " no" * (number % 3), number > 0) for number, thumb in enumerate(THUMBS)
    ]
    settings = {"max_steps": 3, **PLAIN}
    one = fit(base, rows[:8], settings={**settings, "batch_size": 8})
    two = fit(base, rows[:8], settings={**settings, **parts})
    assert last(one, "divergence") > 1e-3
    for measured in ("loss", "grad_norm", "divergence"):
        assert one.history.series(measured)[1] == pytest.approx(two.history.series(measured)[1], abs=1e-5, rel=1e-5)
    alike(one, two)


def test_rankings_are_thumbs_too(tiny_model: TinyModel) -> None:
    rows = [Ranking({"q": "Why?"}, ("so", "as well", "no"), (2, 2, 1)), Ranking.pair({"q": "Who?"}, "me", "you")]
    found: Any = prepare_thumbs(tiny_model(), rows, as_prompt("{q}"), Settings(), "training").rows
    assert [row.grades[0] for row in found] == [1.0, 0.0, 1.0, 0.0]


def test_weights_count(tiny_model: TinyModel) -> None:
    plain, weighted = (
        fit(tiny_model(), settings={"max_steps": 1}),
        fit(tiny_model(), settings={"max_steps": 1}, good_weight=2.0, bad_weight=2.0),
    )
    assert weighted.history[0]["loss"] == pytest.approx(2 * plain.history[0]["loss"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([Feedback({"q": "a"}, "b", 0.5)] * 2, "row 0: 0.5 is no thumb"),
        ([Feedback({"q": "a"}, "b", "nice")] * 2, "give words to HindsightTrainer"),
        ([Feedback({"q": "a"}, " ", True)], "an empty completion"),
        (THUMBS[:1], "1 training rows: KTO needs at least two"),
    ],
)
def test_bad_rows(tiny_model: TinyModel, rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit(tiny_model(), rows)


def test_bad_settings() -> None:
    with pytest.raises(SettingsError, match="good_weight=0: give a number above 0"):
        KTOTrainer(good_weight=0)
