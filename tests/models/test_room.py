"""What a network takes of the memory, against what it really stores; and the setting, wherever a model is made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.errors import SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.room import MEMORY_BYTES, Room
from condition.prefix_sharing.memory import store
from condition.prefix_sharing.probe import shareable
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from tests.conftest import TinyModel


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_takes_what_is_stored_for_it(tiny_model: TinyModel, family: str, dtype: torch.dtype) -> None:
    network = tiny_model(family).network.to(dtype)
    assert shareable(network)
    stored = store(network, [[5, 6, 7, 8]])
    parts = (stored.header_keys, stored.header_values, stored.keys, stored.values)
    taken = sum(part.numel() * part.element_size() for part in parts)
    assert Room(network, 1).token_bytes * 4 == taken


def test_what_has_room(tiny_model: TinyModel) -> None:
    network = tiny_model().network
    token, drawing = 512, 32 * 512
    room = Room(network, 2 * (10 * token + 2 * drawing))
    assert room.fits(10, 2)
    assert not room.fits(11, 2)
    assert not room.fits(10, 3)
    assert room.samples(1, 2, 4) == 2
    assert room.samples(2, 2, 4) == 1
    assert room.samples(1, 1000, 4) == 1  # one always fits


@pytest.mark.parametrize("wrong", [0, -1, 1e9, "2 GB", None, True])
def test_what_is_no_size(tiny_model: TinyModel, wrong: Any) -> None:
    with pytest.raises(SettingsError, match=r"memory_bytes=.*: give a whole number of bytes, such as 4 << 30"):
        tiny_model().memory_bytes = wrong


def test_models_made_of_a_model_take_it_over(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model()
    assert model.memory_bytes == MEMORY_BYTES
    model.memory_bytes = 5_000_000
    tuned = SFTTrainer(LoRA(rank=2), Settings(max_steps=1, batch_size=1, precision="fp32")).fit(
        model, [{"question": "Who?", "target": "Ada."}], prompt="{question}"
    )
    tuned.save_pretrained(tmp_path / "tuned")
    made: dict[str, LocalModel] = {
        "with_prompt": model.with_prompt("{question}"),
        "fit": tuned,
        "merge": tuned.merge(),
        "load": load(tmp_path / "tuned", base=model),
    }
    assert {name: other.memory_bytes for name, other in made.items()} == dict.fromkeys(made, 5_000_000)
