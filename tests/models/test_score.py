"""Scores: sums of log-probabilities by hand, in the order given, with and without sharing."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from condition.errors import Interrupted, ModelError, SharingWarning
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
        ([(Message("text", ""),)], [["blue"]], "prompt 0 has no tokens"),
        (["x"], [["blue " * 600]], r"prompt 0 with continuation 0: [\d,]+ tokens, context 512"),
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
