"""Scores: sums of log-probabilities by hand, in the order given, with and without sharing."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from condition.errors import Interrupted, ModelError, SharingWarning
from condition.models import packs
from condition.models import score as module
from condition.models.local import LocalModel
from condition.types import Message, Score
from tests.conftest import TinyModel

HEADER = "Answer from the passage. The bridge at Orla was built of oak in 1784. " * 3
PROMPTS = [HEADER + "When was the bridge first built?", HEADER + "Of what?", "What is the colour of the sky?"]
CHOICES = [["1784", "in the year 1785", "never"], ["oak", "stone", ""], ["blue", "green"]]


def by_hand(model: LocalModel, prompt: str, text: str) -> float:
    """From one plain pass over prompt and continuation."""
    rendered = model.render(prompt, text)
    before, ids = len(rendered.prompt_ids), rendered.ids[:-1]
    with torch.no_grad():
        values = model.network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(values[i - 1, ids[i]] for i in range(before, len(ids))))


def assert_right(model: LocalModel, found: list[list[Score]]) -> None:
    assert [len(row) for row in found] == [3, 3, 2]
    for prompt, texts, scores in zip(PROMPTS, CHOICES, found, strict=True):
        for text, score in zip(texts, scores, strict=True):
            assert score.logprob == pytest.approx(by_hand(model, prompt, text), abs=1e-4), (prompt, text)
            assert score.chars == len(text)
            assert score.tokens == (len(model.render(prompt, text).ids) - len(model.render(prompt).ids) - 1)


def test_scores_by_hand(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    assert_right(model, model.score(PROMPTS, CHOICES))


def test_a_network_that_cannot_share_gives_the_same(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", attn_implementation="eager")
    with pytest.warns(SharingWarning, match="prefix sharing is off"):
        found = model.score(PROMPTS, CHOICES)
    assert_right(model, found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        model.score(PROMPTS, CHOICES)


def test_many_packs_give_the_same(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_TOKENS", 60)
    model = tiny_model()
    assert_right(model, model.score(PROMPTS, CHOICES))


def test_a_header_is_read_once_for_all_packs_behind_it(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = tiny_model(), packs.remember
    other = "Say who wrote the letter to the mayor of that village. " * 4
    prompts = [*(HEADER + f"Question {i}?" for i in range(9)), *(other + f"Question {i}?" for i in range(9)), "Sky?"]
    choices = [["blue", "green"]] * len(prompts)
    whole = model.score(prompts, choices)
    headers: list[tuple[int, ...]] = []
    monkeypatch.setattr(packs, "remember", lambda network, ids, past: headers.append(tuple(ids)) or read(network, ids))
    monkeypatch.setattr(module, "PACK_TOKENS", 150)
    monkeypatch.setattr(packs, "SMALL_PACK", 20)
    found = model.score(prompts, choices)
    assert len(headers) == 2
    assert headers[0] != headers[1]
    for row, other_row in zip(found, whole, strict=True):
        assert [s.logprob for s in row] == pytest.approx([s.logprob for s in other_row], abs=1e-4)


TEXT = (Message("text", ""),)


def windows_by_hand(model: LocalModel, ids: list[int], context: int) -> float:
    """Every token once; each window predicts what the one before did not, behind as many tokens as fit."""
    first = model.tokenizer.eos_token_id if model.tokenizer.bos_token_id is None else model.tokenizer.bos_token_id
    whole, total, done = [first, *ids], 0.0, 1
    while done < len(whole):
        stop = min(done + context, len(whole))
        begin = max(0, stop - context - 1)
        with torch.no_grad():
            logits = model.network(input_ids=torch.tensor([whole[begin : stop - 1]])).logits[0].double()
        values = logits.log_softmax(-1)
        total += float(sum(values[i - begin - 1, whole[i]] for i in range(done, stop)))
        done = stop
    return total


@pytest.mark.parametrize("context", [512, 16, 7])
def test_a_whole_text_in_windows_of_the_context(tiny_model: TinyModel, context: int) -> None:
    model = tiny_model(max_position_embeddings=context)
    texts = ["The bridge at Orla was built of oak in 1784 and rebuilt in stone.", "sky"]
    [found] = model.score([TEXT], [texts])
    for text, score in zip(texts, found, strict=True):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert (score.tokens, score.chars) == (len(ids), len(text))
        assert score.logprob == pytest.approx(windows_by_hand(model, ids, context), abs=1e-4)


def test_a_whole_text_without_a_token_to_begin_it(tiny_model: TinyModel) -> None:
    model = tiny_model()
    model.tokenizer.bos_token = None
    [[begun]] = model.score([TEXT], [["sky"]])
    ids = model.tokenizer("sky", add_special_tokens=False)["input_ids"]
    assert begun.logprob == pytest.approx(windows_by_hand(model, ids, 512), abs=1e-4)
    model.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="none that begins or ends a text"):
        model.score([TEXT], [["sky"]])


def test_order_does_not_matter(tiny_model: TinyModel) -> None:
    model = tiny_model()
    forwards = model.score(PROMPTS, CHOICES)
    backwards = model.score(PROMPTS[::-1], [c[::-1] for c in CHOICES[::-1]])
    for row, other in zip(forwards, backwards[::-1], strict=True):
        for score, same in zip(row, other[::-1], strict=True):
            assert score.logprob == pytest.approx(same.logprob, abs=1e-5)


def test_the_same_continuation_twice(tiny_model: TinyModel) -> None:
    [[one, two]] = tiny_model().score(["x"], [["blue", "blue"]])
    assert (one.tokens, one.chars) == (two.tokens, two.chars)
    assert one.logprob == pytest.approx(two.logprob, abs=1e-5)  # one token, two rows of a product


def test_nothing(tiny_model: TinyModel) -> None:
    model = tiny_model()
    assert model.score([], []) == []
    assert model.score(["x"], [[]]) == [[]]
    assert model.score(["x"], [[""]]) == [[Score(0.0, 0, 0)]]


@pytest.mark.parametrize(
    ("prompts", "continuations", "said"),
    [
        (["x"], ["blue"], "prompt 0: continuations are a list of strings, not one string"),
        (["x", "y"], [["blue"]], "2 prompts and 1 lists of continuations"),
        (
            ["x"],
            [["blue " * 600]],
            r"prompt 0 with continuation 0 has [\d,]+ tokens and the model's context 512; shorten it",
        ),
    ],
)
def test_bad_input(tiny_model: TinyModel, prompts: Any, continuations: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        tiny_model().score(prompts, continuations)


def test_an_interruption_holds_whole_prompts(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_TOKENS", 60)
    model, measured = tiny_model(), module._measure
    whole = model.score(PROMPTS, CHOICES)
    calls = 0

    def stop_at_the_fourth(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        measured(*given)

    monkeypatch.setattr(module, "_measure", stop_at_the_fourth)
    with pytest.raises(Interrupted) as caught:
        model.score(PROMPTS, CHOICES)
    assert caught.value.total == 3
    for place, scores in caught.value.finished.items():
        assert [s.logprob for s in scores] == pytest.approx([s.logprob for s in whole[place]], abs=1e-4)
