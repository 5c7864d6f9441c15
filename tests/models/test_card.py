"""The card of a saved model: what the contract says, a header that the hub reads, and a person's own words kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condition.adapters.lora import LoRA
from condition.models.card import CARD, OURS, card
from condition.models.contract import Contract, Source
from condition.models.load import load
from condition.models.local import LocalModel
from condition.prompts.template import ChatPrompt
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from tests.conftest import TinyModel


@pytest.fixture
def tuned(tiny_model: TinyModel) -> LocalModel:
    prompt = ChatPrompt([("system", "Be | brief."), ("user", "{context}\n{question}")])
    rows = [{"context": "x", "question": "What?", "target": "blue"}]
    settings = Settings(max_steps=1, precision="fp32", learning_rate=1e-3)
    return SFTTrainer(adapter=LoRA(rank=2), settings=settings).fit(tiny_model(), rows, prompt=prompt)


def header(text: str) -> dict[str, Any]:
    lines = text.split("---")[1].strip().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def test_it_says_what_the_contract_says(tuned: LocalModel, tmp_path: Path) -> None:
    tuned.save_pretrained(tmp_path / "qa")
    text = (tmp_path / "qa" / CARD).read_text()
    contract = json.loads((tmp_path / "qa" / "condition.json").read_text())
    assert header(text) == {"library_name": "peft", "pipeline_tag": "text-generation"}
    assert 'cd.load("qa")' in text
    assert 'model.invoke({"context": "…", "question": "…"})' in text
    assert contract["data"] in text
    assert "| learning_rate | 0.001 |" in text
    assert "| adapter: rank | 2 |" in text
    assert f"| final_loss | {contract['metrics']['final_loss']:.6g} |" in text
    assert "Be | brief." in text
    assert CARD not in contract["files"]


def test_the_base_is_named_where_others_can_get_it() -> None:
    told: dict[str, Any] = {"tokenizer": "t", "chat_template": "c", "stop_tokens": (2,), "dtype": "float32"}
    on_hub = card(Contract(base=Source(kind="hub", name="org/model"), **told), "me/qa")
    assert header(on_hub)["base_model"] == "org/model"
    here = card(Contract(base=Source(kind="folder", name="/home/ada/secret/model"), **told), "qa")
    assert "base_model" not in header(here)
    assert "/home/ada" not in here
    assert header(here)["library_name"] == "transformers"


def test_a_persons_words_are_kept(tuned: LocalModel, tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tmp_path / "qa"
    tuned.save_pretrained(folder)
    path = folder / CARD
    path.write_text(path.read_text().replace(OURS, "") + "\nMine.")
    mine = path.read_text()
    load(folder, base=tiny_model())
    tuned.save_pretrained(folder)
    assert path.read_text() == mine
    path.write_text(OURS)
    tuned.save_pretrained(folder)
    assert "cd.load" in path.read_text()
