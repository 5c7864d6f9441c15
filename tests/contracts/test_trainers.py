"""Every trainer through the same checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import condition as cd
from condition.testing import check_trainer
from condition.types import Example, Feedback, Ranking
from tests.conftest import TinyModel

SETTINGS = cd.Settings(max_steps=2, batch_size=2, precision="fp32")
EXAMPLES = [Example({"question": f"What is {i}?"}, f"It is {i}") for i in range(6)]
RANKINGS = [Ranking({"question": f"What is {i}?"}, [f"It is {i}", "no", "bad"]) for i in range(6)]
THUMBS = [Feedback({"question": f"What is {i}?"}, f"It is {i}", i % 2 == 0) for i in range(6)]
LORA = cd.LoRA(rank=2)
TRAINERS: dict[str, tuple[Any, Sequence[Any]]] = {
    "SFTTrainer": (cd.SFTTrainer(LORA, SETTINGS), EXAMPLES),
    "SFTTrainer of all weights": (cd.SFTTrainer(cd.FullFineTuning(), SETTINGS), EXAMPLES),
    "DPOTrainer": (cd.DPOTrainer(adapter=LORA, settings=SETTINGS), RANKINGS),
    "PROTrainer": (cd.PROTrainer(adapter=LORA, settings=SETTINGS), RANKINGS),
    "KTOTrainer": (cd.KTOTrainer(adapter=LORA, settings=SETTINGS), THUMBS),
    "HindsightTrainer": (cd.HindsightTrainer(LORA, SETTINGS), RANKINGS),
    "RewardTrainer": (cd.RewardTrainer(LORA, SETTINGS), RANKINGS),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer(name: str, tiny_model: TinyModel) -> None:
    trainer, rows = TRAINERS[name]
    check_trainer(trainer, tiny_model(), rows)


@pytest.mark.real
def test_on_the_model_and_rows_of_the_check() -> None:
    check_trainer(cd.SFTTrainer(LORA, SETTINGS))
