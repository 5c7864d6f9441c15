"""References are computed once for the same rows, and never for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.errors import ModelError
from condition.models.local import LocalModel
from condition.prefix_sharing.logprobs import plain_logprobs
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.training import references
from condition.training.candidates import Candidates, prepare_rankings
from condition.training.preference import DPOTrainer
from condition.training.references import with_references
from condition.training.settings import Settings
from tests.conftest import TinyModel
from tests.training.test_preference import QUICK, ROWS


def rows_of(model: LocalModel, rows: Any = ROWS) -> list[Candidates]:
    found: Any = prepare_rankings(model, rows, as_prompt("{q}"), Settings(), "training").rows
    return list(found)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were read at each call of the network."""
    calls: list[int] = []
    real = references._measured
    monkeypatch.setattr(references, "_measured", lambda rows, *more: (calls.append(len(rows)), real(rows, *more))[1])
    return calls


def test_they_are_the_plain_path_s(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    for row in with_references(rows_of(model), model, torch.float32):
        with torch.no_grad():
            plain = plain_logprobs(model.network, row.sequences, [row.start] * len(row.completions))
        for kept, value in zip(row.reference, plain, strict=True):
            torch.testing.assert_close(torch.tensor(kept), value, atol=1e-4, rtol=1e-4)


def test_other_settings_find_them_again(tiny_model: TinyModel, computed: list[int]) -> None:
    for options in ({}, {"beta": 0.3}, {"loss": "ipo"}, {"pairs": "best"}):
        for settings in ({"learning_rate": 1e-3}, {"seed": 3, "batch_size": 4}):
            trainer = DPOTrainer(settings=Settings(**{**QUICK, **settings, "max_steps": 1}), **options)  # type: ignore[arg-type]
            trainer.fit(tiny_model(), ROWS, prompt="{q}")
    assert computed == [12]


def test_what_they_depend_on_computes_them_anew(tiny_model: TinyModel, computed: list[int]) -> None:
    model = tiny_model()
    rows = rows_of(model)
    with_references(rows, model, torch.float32)
    with_references(rows[:5], model, torch.float32)
    with_references(rows, model, torch.bfloat16)
    other = tiny_model()
    other.network.get_submodule("lm_head").weight.data.mul_(1.01)
    with_references(rows, other, torch.float32)
    adapted = LoRA(rank=2).attach(model.network)
    tuned = LocalModel(adapted, model.tokenizer, source=model.source)
    with_references(rows, tuned, torch.float32)
    next(p for n, p in adapted.named_parameters() if "lora_B" in n).data[0, 0] = 0.5
    with_references(rows, tuned, torch.float32)
    assert computed == [12, 5, 12, 12, 12, 12]


def test_a_damaged_file_is_computed_again(tiny_model: TinyModel, computed: list[int], own_references: Path) -> None:
    model = tiny_model()
    rows = with_references(rows_of(model), model, torch.float32)
    (file,) = own_references.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert with_references(rows_of(model), model, torch.float32) == rows
    assert computed == [12, 12]


def test_they_are_no_part_of_a_row(tiny_model: TinyModel) -> None:
    row = rows_of(tiny_model())[0]
    assert repr(replace(row, reference=((1.0,), (2.0,), (3.0,)))) == repr(row)


def test_a_broken_reference(tiny_model: TinyModel) -> None:
    model = tiny_model()
    assert shareable(model.network)
    model.network.get_submodule("lm_head").weight.data[:] = torch.nan
    with pytest.raises(ModelError, match="log-probabilities that are no numbers"):
        with_references(rows_of(model), model, torch.float32)
