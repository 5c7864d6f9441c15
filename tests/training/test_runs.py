"""In what runs differ, by the name of what was changed."""

from __future__ import annotations

from typing import Any

import pytest

from condition.training.runs import PROMPT, READ, differences, more_steps

RUN: dict[str, Any] = {
    "trainer": "SFTTrainer",
    "base": "a",
    "data": "tokens",
    "data_says": "rows",
    "validation": "held",
    "validation_says": "held rows",
    "max_steps": None,
    "epochs": 1,
    "max_length": None,
    "targets": ["q_proj"],
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, []),
        ({"targets": ("q_proj",)}, []),  # as JSON has it
        ({"data": "others", "validation": "others"}, [PROMPT]),
        ({"data": "others", "epochs": 2}, ["epochs", PROMPT]),
        ({"data": "others", "data_says": "others"}, ["data"]),
        ({"data": "others", "validation": "others", "validation_says": "others"}, ["validation", PROMPT]),
        ({"data": "others", "max_length": 8}, ["data", "max_length"]),  # cut otherwise
        ({"data": "others", "base": "b"}, ["base", "data"]),  # of another tokenizer
        ({"data": "others", "data_says": None}, [READ]),
        ({"data_says": "others"}, []),  # a run of before there was such a hash goes on
    ],
)
def test_differences(change: dict[str, Any], named: list[str]) -> None:
    assert differences(RUN, {**RUN, **change}) == named


def test_a_longer_run() -> None:
    assert "fit(tuned, ...) with another output folder" in more_steps(["max_steps"])
    assert more_steps(["epochs", "max_steps"])
    assert not more_steps(["max_steps", "seed"])
