"""A reward model: one shared pass, saved with its contract, usable wherever a verifier is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.adapters.reward_head import FILE, add_head, head_of
from condition.errors import ContractError, ModelError
from condition.models import reward as module
from condition.models.local import LocalModel
from condition.models.reward import RewardModel, last_hidden
from condition.prefix_sharing.probe import shareable
from condition.prompts.history import History
from condition.prompts.template import ChatPrompt, as_prompt
from condition.protocols import Verifier
from condition.reasoning.best_of import BestOf
from condition.types import Message
from tests.conftest import TinyModel


def reward_model(base: LocalModel, prompt: object = "{q}") -> RewardModel:
    """With a random head and adapter."""
    network = LoRA(rank=2).attach(base.network)
    add_head(network)
    numbers = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if "lora" in name or name == "score.weight":
            parameter.data.normal_(std=0.1, generator=numbers)
    made = LocalModel(network, base.tokenizer, source=base.source, prompt=as_prompt(prompt))
    return RewardModel(made)


def test_the_last_token_is_read(tiny_model: TinyModel, family: str) -> None:
    """On the shared path, the plain one, and the network's own forward pass of one row at a time."""
    network = tiny_model(family).network
    assert shareable(network)
    common = tuple(range(20, 60))
    sequences = [(*common, 5, 6, 2), (*common, 7, 2), (9, 8, 2)]
    shared, plain = (last_hidden(network, sequences, way) for way in (True, False))
    for i, sequence in enumerate(sequences):
        with torch.no_grad():
            own = network.base_model(input_ids=torch.tensor([sequence])).last_hidden_state[0, -1]
        torch.testing.assert_close(shared[i], own, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(plain[i], own, atol=1e-4, rtol=1e-4)


def test_it_is_a_verifier(tiny_model: TinyModel) -> None:
    reward = reward_model(tiny_model())
    assert isinstance(reward, Verifier)
    scores = reward("What is it?", ["blue", "a grey thing", "blue"])
    assert len(scores) == 3
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)
    assert reward("What is it?", ["a grey thing"])[0] == pytest.approx(scores[1], abs=1e-4)
    best = BestOf(tiny_model().with_prompt("{question}"), reward, samples=3, seed=0).invoke({"question": "What is it?"})
    assert best.score == pytest.approx(reward("What is it?", [best.text])[0], abs=1e-4)


def test_a_prompt_is_read_once_for_all_its_answers(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they do not go through the network at once."""
    reward = reward_model(tiny_model())
    questions = ["a b c d e f g h " * 12, "Why?", "A b c d e f g h " * 12]
    answers = [[f"{x} is one of them " * 2 for x in "stuvwxyz"], ["so", "no"], ["yes", "no"]]
    prompts = [(Message("user", question),) for question in questions]
    whole = reward.rewards(prompts, answers)
    read = 0

    def count(layer: object, given: tuple[torch.Tensor], output: object) -> None:
        nonlocal read
        read += given[0].numel()

    reward.model.network.get_input_embeddings().register_forward_hook(count)
    monkeypatch.setattr(module, "PACK_TOKENS", 250)
    found = reward.rewards(prompts, answers)
    for own, other in zip(found, whole, strict=True):
        assert own == pytest.approx(other, abs=1e-4)
    rendered = [
        [reward.model.render(messages, text) for text in own] for messages, own in zip(prompts, answers, strict=True)
    ]
    once = sum(len(own[0].prompt_ids) + sum(len(r.ids) - len(r.prompt_ids) for r in own) for own in rendered)
    assert len(rendered[0][0].prompt_ids) > 100
    assert read <= once


def test_it_is_saved_and_loaded(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model()
    reward = reward_model(base)
    reward.save_pretrained(tmp_path / "liked")
    again = RewardModel.load(tmp_path / "liked", base=base)
    assert again("What is it?", ["blue", "grey"]) == reward("What is it?", ["blue", "grey"])
    assert head_of(base.network) is None
    head = tmp_path / "liked" / FILE
    head.write_bytes(head.read_bytes()[:-1] + b"x")
    with pytest.raises(ContractError, match="weights are damaged"):
        RewardModel.load(tmp_path / "liked", base=base)


def test_prompts(tiny_model: TinyModel) -> None:
    base = tiny_model()
    several = reward_model(base, ChatPrompt([("user", "{context} {question}")]))
    with pytest.raises(ModelError, match=r"variables \['context', 'question'\]"):
        several("Why?", ["so"])
    asked = several.prompt
    assert asked is not None
    assert len(several.rewards([asked.format(context="It rains.", question="Why?")], [["so", "no"]])[0]) == 2
    talked = reward_model(base, History())
    assert talked("Why?", ["so"]) == pytest.approx(talked.rewards([(Message("user", "Why?"),)], [["so"]])[0])


def test_what_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(ModelError, match="has no reward head: make one with RewardTrainer"):
        RewardModel(tiny_model())
    reward = reward_model(tiny_model())
    with pytest.raises(ModelError, match=r"makes .* tokens, the context has 512"):
        reward("Why?", ["so " * 600])
    with pytest.raises(ModelError, match="1 prompts and 2 lists"):
        reward.rewards([(Message("user", "Why?"),)], [["a"], ["b"]])
