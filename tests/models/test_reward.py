"""A reward model: one shared pass, saved with its contract, usable wherever a verifier is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.adapters.reward_head import FILE, add_head, head_of
from condition.errors import ContractError, ModelError
from condition.evaluation.judge import Pair, VerifierJudge
from condition.models import reward as module
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.render import TURNS
from condition.models.reward import RewardModel, last_hidden
from condition.prefix_sharing.past import remember
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
    own = None if prompt is None else as_prompt(prompt)
    return RewardModel(LocalModel(network, base.tokenizer, source=base.source, prompt=own))


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
    for some in (sequences[:1], sequences[:2], sequences):  # which begin with all of what is kept, some of it, nothing
        with torch.no_grad():
            behind = last_hidden(network, some, True, remember(network, sequences[0]))
        torch.testing.assert_close(behind, plain[: len(some)], atol=1e-4, rtol=1e-4)


def test_it_is_a_verifier(tiny_model: TinyModel) -> None:
    reward = reward_model(tiny_model())
    assert isinstance(reward, Verifier)
    scores = reward("What is it?", ["blue", "a grey thing", "blue"])
    assert len(scores) == 3
    assert scores[0] == scores[2]
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
    expected = reward_model(base).rewards([(Message("user", "Why?"),)], [["so", "no"]])[0]
    for prompt in (History(), "{q}", None):
        assert reward_model(base, prompt)("Why?", ["so", "no"]) == pytest.approx(expected)


def test_what_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(ModelError, match="has no reward head: make one with RewardTrainer"):
        RewardModel(tiny_model())
    reward = reward_model(tiny_model())
    before = len(reward.model.render("Why?", "").ids)
    assert len(reward("Why?", ["1" * (512 - before)])) == 1  # all of the context
    with pytest.raises(ModelError, match=r"make 513 tokens, the context has 512: shorten one of them"):
        reward("Why?", ["1" * (513 - before)])
    with pytest.raises(ModelError, match="1 prompts and 2 lists"):
        reward.rewards([(Message("user", "Why?"),)], [["a"], ["b"]])


def test_the_same_answer_is_never_better_than_itself(tiny_model: TinyModel) -> None:
    """Read twice in one pass, its rewards would differ by rounding, and a judge would tell it from itself."""
    reward, texts = reward_model(tiny_model()), ["so", "no " * 9, "perhaps", "", "it is so", "no"]
    for text in texts:
        scores = reward("Why is it so?", [text, *texts, text])
        assert scores[0] == scores[-1] == scores[1 + texts.index(text)]
    assert [j.winner for j in VerifierJudge(reward)([Pair("Why?", text, text) for text in texts])] == ["tie"] * 6


@pytest.mark.parametrize("given", ["blue", b"blue", ["blue", None], [1], None], ids=str)
def test_what_is_no_list_of_texts(tiny_model: TinyModel, given: Any) -> None:
    """A text would be read letter by letter, and none as a prompt without an answer."""
    with pytest.raises(ModelError, match=r"candidates=.*: give a list of texts"):
        reward_model(tiny_model())("What is it?", given)


def test_texts_from_anywhere(tiny_model: TinyModel) -> None:
    reward, texts = reward_model(tiny_model()), ("blue", "grey", "")
    expected = reward("What is it?", texts)
    for given in (list(texts), iter(texts), dict.fromkeys(texts)):
        assert reward("What is it?", given) == expected  # type: ignore[arg-type]  # what people give
    asked = (Message("user", "What is it?"),)
    assert reward.rewards([asked] * 3, [[], texts, []]) == [[], pytest.approx(expected, abs=1e-5), []]
    assert reward("What is it?", []) == []


@pytest.mark.parametrize("head", [torch.float32, None], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_network_in_another_precision(tiny_model: TinyModel, dtype: torch.dtype, head: torch.dtype | None) -> None:
    """With a head of its own, as it is loaded, and in one piece, as `network.to` leaves it."""
    reward = reward_model(tiny_model())
    before = reward("What is it?", ["blue", "grey"])
    reward.model.network.to(dtype).get_submodule("score").to(head or dtype)
    assert reward("What is it?", ["blue", "grey"]) == pytest.approx(before, abs=0.02)


def test_in_a_pass_threads_take_turns_and_nothing_is_kept_to_learn_from(tiny_model: TinyModel) -> None:
    reward, seen = reward_model(tiny_model()), []

    def look(*_: object) -> None:
        with ThreadPoolExecutor(1) as other:
            seen.append((other.submit(TURNS.acquire, False).result(), torch.is_grad_enabled()))

    reward("Why?", ["so"])
    reward.model.network.get_input_embeddings().register_forward_hook(look)
    reward("Why?", ["so"])
    assert set(seen) == {(False, False)}


def test_a_head_that_was_put_into_a_folder(tiny_model: TinyModel, tmp_path: Path) -> None:
    """A tuned model is no reward model with somebody else's head."""
    base = tiny_model()
    reward_model(base).save_pretrained(tmp_path / "liked")
    tuned = LocalModel(LoRA(rank=2).attach(base.network), base.tokenizer, source=base.source)
    tuned.save_pretrained(tmp_path / "tuned")
    with pytest.raises(ModelError, match="has no reward head"):
        RewardModel.load(tmp_path / "tuned", base=base)
    assert load(tmp_path / "tuned", base=base).name
    (tmp_path / "tuned" / FILE).write_bytes((tmp_path / "liked" / FILE).read_bytes())
    with pytest.raises(ContractError, match=r"was saved without reward_head\.safetensors"):
        load(tmp_path / "tuned", base=base)
