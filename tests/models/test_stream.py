"""Streaming gives generate's text, ends when nobody listens, and hands errors on."""

from __future__ import annotations

import threading

import pytest
import torch

from condition.errors import ModelError
from condition.models.local import LocalModel
from condition.protocols import Control
from condition.types import Completion, Message, Messages, Sampling
from tests.conftest import TinyModel
from tests.models.test_generate import Forced, said


def pieces(
    model: LocalModel, prompt: str | Messages, sampling: Sampling, control: Control | None = None
) -> tuple[list[str], Completion]:
    *texts, last = list(model.stream(prompt, sampling, control=control))
    assert isinstance(last, Completion)
    assert all(isinstance(text, str) and text for text in texts)
    return [str(text) for text in texts], last


@pytest.mark.parametrize(
    ("words", "stops"),
    [
        ("the sky is blue", ()),
        ("grün und 🌉 blau", ()),
        ("the sky is blue", (" is",)),
        ("the sky is blue", ("is bl", "e")),
        ("the sky is", ("is blue",)),  # the beginning of a stop text at the very end
        ("aaaab", ("aab",)),
        ("grün 🌉", ("🌉",)),
        ("", ()),
    ],
)
def test_the_pieces_are_the_text(tiny_model: TinyModel, words: str, stops: tuple[str, ...]) -> None:
    model = tiny_model()
    forced, sampling = said(model, words), Sampling(max_tokens=60, stop=stops)
    texts, last = pieces(model, "x", sampling, Forced(*forced))
    [[expected]] = model.generate(["x"], sampling, control=Forced(*forced))
    assert "".join(texts) == last.text == expected.text
    assert (last.token_ids, last.finish_reason) == (expected.token_ids, expected.finish_reason)
    assert last.logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert not any("\ufffd" in text for text in texts)


def test_noise_is_streamed_as_it_is_generated(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    for seed in range(4):
        sampling = Sampling(max_tokens=16, temperature=1.0, seed=seed, stop=("e", "zz"))
        texts, last = pieces(model, "x", sampling)
        [[expected]] = model.generate(["x"], sampling)
        assert "".join(texts) == last.text == expected.text


def test_a_stop_token_that_is_a_word_is_not_shown(tiny_model: TinyModel) -> None:
    model = tiny_model()
    [model.renderer.chat_stop] = model.tokenizer("!", add_special_tokens=False)["input_ids"]
    texts, last = pieces(model, "x", Sampling(max_tokens=60), Forced(*said(model, "the sky!")))
    assert "".join(texts) == last.text == "the sky"
    assert last.finish_reason == "stop"


def test_several_pieces(tiny_model: TinyModel) -> None:
    model = tiny_model()
    texts, _ = pieces(model, "x", Sampling(max_tokens=60), Forced(*said(model, "the sky is blue")))
    assert len(texts) > 2


def test_a_text_prompt(tiny_model: TinyModel) -> None:
    model = tiny_model()
    prompt = (Message("text", "The sky"),)
    texts, last = pieces(model, prompt, Sampling(max_tokens=6))
    assert "".join(texts) == last.text == model.generate([prompt], Sampling(max_tokens=6))[0][0].text


def test_leaving_early_ends_the_writing(tiny_model: TinyModel) -> None:
    model = tiny_model()
    before = threading.active_count()
    control = Forced(*said(model, "the")[:1])
    stream = iter(model.stream("x", Sampling(max_tokens=400), control=control))
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # what leaving a for loop does in the end
    assert threading.active_count() == before
    assert control.calls < 400
    assert len(model.generate(["x"], Sampling(max_tokens=2))) == 1  # and the model is free again


@pytest.mark.parametrize("error", [ValueError("no such label"), KeyboardInterrupt()])
def test_errors_reach_the_reader(tiny_model: TinyModel, error: BaseException) -> None:
    model = tiny_model()
    with pytest.raises(type(error)):
        list(model.stream("x", Sampling(max_tokens=20), control=Forced(70, raises=error, at=3)))


def test_a_prompt_that_does_not_fit(tiny_model: TinyModel) -> None:
    model = tiny_model(max_position_embeddings=64)
    with pytest.raises(ModelError, match="context 64"):
        list(model.stream("a " * 90))


def test_a_seed_leaves_the_process_alone(tiny_model: TinyModel) -> None:
    model = tiny_model()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(model.stream("x", Sampling(max_tokens=4, temperature=1.0, seed=3)))
    assert torch.equal(torch.get_rng_state(), state)
