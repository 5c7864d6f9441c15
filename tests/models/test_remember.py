"""Kept beginnings: the same answers and scores with fewer tokens computed, saved, and refused where they do not fit."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from condition.errors import ContractError, ModelError, SharingWarning
from condition.models.local import LocalModel
from condition.prompts.template import ChatPrompt
from condition.types import Completion, Message, Sampling, Score
from tests.conftest import TinyModel

SHOTS = (Message("system", "Answer in one word, as in the examples that follow, please."), Message("user", "Sky?"))
QUESTIONS = [(*SHOTS, Message("assistant", "Blue."), Message("user", q)) for q in ("Grass?", "A ripe tomato?")]
SAMPLING = Sampling(max_tokens=6, temperature=1.0, n=2, seed=3)


def texts(found: list[list[Completion]]) -> list[tuple[int, ...]]:
    return [c.token_ids for own in found for c in own]


def computed(found: list[list[Completion]]) -> int:
    return sum(c.usage.computed_tokens for own in found for c in own if c.usage)


def same(one: list[list[Score]], other: list[list[Score]]) -> bool:
    return [[s.logprob for s in own] for own in one] == [
        [pytest.approx(s.logprob, abs=1e-4) for s in own] for own in other
    ]


def test_the_answers_are_the_same_and_cost_less(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    plain = model.generate(QUESTIONS, SAMPLING)
    scores = model.score(QUESTIONS, [["Green."], ["Red."]])
    with model.remember(SHOTS) as kept:
        found = model.generate(QUESTIONS, SAMPLING)
        assert texts(found) == texts(plain)
        assert computed(found) < computed(plain) - 40
        assert same(model.score(QUESTIONS, [["Green."], ["Red."]]), scores)
        assert list(model.stream(QUESTIONS[0], SAMPLING))[-1].text == plain[0][0].text  # type: ignore[union-attr]
    assert computed(model.generate(QUESTIONS, SAMPLING)) == computed(plain)
    assert kept.bytes == 2 * 4 * len(kept.ids) * _entries(model)


def _entries(model: LocalModel) -> int:
    """Of keys for one token."""
    config = model.network.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(config.num_hidden_layers * heads * (config.hidden_size // config.num_attention_heads))


def test_other_prompts_are_simply_read(tiny_model: TinyModel) -> None:
    model = tiny_model()
    plain = model.generate(["Hello"], SAMPLING)
    with model.remember(SHOTS):
        found = model.generate(["Hello"], SAMPLING)
    assert (texts(found), computed(found)) == (texts(plain), computed(plain))


def test_the_longest_beginning_is_used(tiny_model: TinyModel) -> None:
    model = tiny_model()
    with model.remember(SHOTS[:1]):
        short = computed(model.generate(QUESTIONS, SAMPLING))
        with model.remember(QUESTIONS[0][:3]):
            assert computed(model.generate(QUESTIONS, SAMPLING)) < short


def test_a_prompt_is_kept_up_to_its_first_variable(tiny_model: TinyModel) -> None:
    model = tiny_model()
    prompt = ChatPrompt([("system", "Answer from the passage that you are given."), ("user", "Passage: {context}")])
    with model.remember(prompt) as kept:
        assert model.tokenizer.decode(kept.ids).endswith("Passage:")


def test_a_tuned_model_behind_another_prompt_shares_what_is_kept(tiny_model: TinyModel) -> None:
    model = tiny_model()
    with model.remember(SHOTS):
        other = model.with_prompt("{q}")
        assert computed(other.generate(QUESTIONS, SAMPLING)) < 90


def test_saved_and_recalled(tiny_model: TinyModel, tmp_path: Path) -> None:
    with tiny_model().remember(SHOTS) as kept:
        kept.save(tmp_path / "shots.safetensors")
        ids = kept.ids
    model = tiny_model()
    plain = model.generate(QUESTIONS, SAMPLING)
    with model.recall(tmp_path / "shots.safetensors") as again:
        assert again.ids == ids
        found = model.generate(QUESTIONS, SAMPLING)
    assert texts(found) == texts(plain)
    assert computed(found) < computed(plain)


@pytest.mark.parametrize("changed", ["ids", "keys", "values"])
def test_an_edited_file_is_not_recalled(tiny_model: TinyModel, tmp_path: Path, changed: str) -> None:
    model, file = tiny_model(), tmp_path / "shots.safetensors"
    with model.remember(SHOTS) as kept:
        kept.save(file)
    with safe_open(file, framework="pt") as content:
        metadata, tensors = content.metadata(), {name: content.get_tensor(name) for name in ("ids", "keys", "values")}
    tensors[changed].flatten()[-1] += 1
    save_file(tensors, file, metadata)
    with pytest.raises(ContractError, match="not as it was written"):
        model.recall(file)


@pytest.mark.parametrize("changed", ["weights", "precision"])
def test_another_network_does_not_recall(tiny_model: TinyModel, tmp_path: Path, changed: str) -> None:
    with tiny_model().remember(SHOTS) as kept:
        kept.save(tmp_path / "shots.safetensors")
    model = tiny_model()
    if changed == "weights":
        model.network.get_input_embeddings().weight.data.add_(0.1)
    else:
        model.network.bfloat16()
    with pytest.raises(ContractError, match="another network"):
        model.recall(tmp_path / "shots.safetensors")


def test_changed_weights_are_noticed(tiny_model: TinyModel) -> None:
    model = tiny_model()
    with model.remember(SHOTS):
        model.network.get_input_embeddings().weight.data.add_(0.1)
        with pytest.raises(ModelError, match="changed since"):
            model.generate(QUESTIONS, SAMPLING)


def test_files_that_are_none(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model()
    with pytest.raises(ModelError, match="there is no file"):
        model.recall(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="can't be read"):
        model.recall(tmp_path / "text")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ModelError, match="holds no remembered beginning"):
        model.recall(tmp_path / "other")
    with model.remember(SHOTS) as kept, pytest.raises(ModelError, match="can't write"):
        kept.save(tmp_path / "no such folder" / "x")


def test_what_can_not_be_kept(tiny_model: TinyModel) -> None:
    model = tiny_model()
    with pytest.raises(ModelError, match="there is nothing to remember: the beginning has no tokens"):
        model.remember((Message("text", ""),))
    with pytest.raises(ModelError, match=r"the beginning has [\d,]+ tokens and the model's context 512; shorten it"):
        model.remember("word " * 600)


def test_what_cannot_share_cannot_remember(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", attn_implementation="eager")
    with pytest.warns(SharingWarning), pytest.raises(ModelError, match="can't share prefixes"):
        model.remember(SHOTS)


def test_the_memory_goes_with_the_network(tiny_model: TinyModel) -> None:
    model: Any = tiny_model()
    model.remember(SHOTS)
    network = weakref.ref(model.network)
    del model
    gc.collect()
    assert network() is None
