"""Waves: memory is bounded by a setting, whatever n and however short the samples are."""

from __future__ import annotations

import pytest

from condition.adapters.packed import PackedProducts
from condition.models.completion import asked
from condition.models.local import LocalModel
from condition.models.writing import Writing
from condition.prefix_sharing.decode import Decoder
from condition.prefix_sharing.probe import shareable
from condition.types import Message, Sampling
from tests.conftest import TinyModel
from tests.models.test_generate import Forced, said

ASKED = (Message("user", "Who built the bridge?"),)


def exchanged(model: LocalModel) -> LocalModel:
    """Asked, as `generate` asks: a network that was not would read a tree as a plain row."""
    assert shareable(model.network)
    return model


@pytest.mark.parametrize("most", [1, 40])
def test_what_is_drawn_from_counts_as_well_as_what_is_stored(tiny_model: TinyModel, most: int) -> None:
    """This network stores 2 layers x 2 shared heads x 2 x 16 numbers of 4 bytes a token, prompts too."""
    model = exchanged(tiny_model())
    model.memory_bytes = 2 * 100_000
    ids = asked(model._writer, 0, ASKED).ids
    drawn = Writing(model._writer, [asked(model._writer, 0, ASKED)], Sampling(max_tokens=most, temperature=1.0, n=1000))
    assert drawn._decoder.samples == (100_000 - 512 * len(ids)) // (512 * most + 32 * 512)


def test_weights_are_laid_out_once_more_where_that_is_allowed(tiny_model: TinyModel) -> None:
    model = exchanged(tiny_model())
    weights = sum(weight.numel() * 4 for weight in model.network.parameters())
    for memory_bytes, packs in ((2 * weights, True), (2 * weights - 2, False)):
        model.memory_bytes = memory_bytes
        written = Writing(model._writer, [asked(model._writer, 0, ASKED)], Sampling(max_tokens=1))
        assert isinstance(written._packed, PackedProducts) is packs


def test_samples_of_all_waves_have_their_own_numbers(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    sampling = Sampling(max_tokens=6, temperature=1.0, n=7, seed=3)
    whole = model.generate([ASKED], sampling)[0]
    waves: list[int] = []
    begin = Decoder.__init__

    def noted(self: Decoder, *given: object, **more: object) -> None:
        begin(self, *given, **more)  # type: ignore[arg-type]
        waves.append(self.samples)

    monkeypatch.setattr(Decoder, "__init__", noted)
    prompt = len(asked(model._writer, 0, ASKED).ids)
    model.memory_bytes = 2 * (512 * prompt + 3 * (512 * 6 + 32 * 512))
    found = model.generate([ASKED], sampling)[0]
    assert waves == [3, 3, 1]
    assert [c.token_ids for c in found] == [c.token_ids for c in whole]
    assert len({c.token_ids for c in found}) == 7


def test_a_stop_text_ends_a_sample_with_the_token_that_completes_it(tiny_model: TinyModel) -> None:
    model = exchanged(tiny_model())
    forced = said(model, "the sky is blue and the grass is green")
    heads = [str(model.tokenizer.decode(forced[:n])) for n in range(len(forced))]
    written = Writing(model._writer, [asked(model._writer, 0, ASKED)], Sampling(stop=("is bl",)), Forced(*forced))
    while not written.done:
        written.step()
    assert len(written.tokens[0]) == next(n for n, head in enumerate(heads) if "is bl" in head)
    assert written.completions()[0].text == "the sky "


def test_a_stop_text_ends_a_sample_in_whatever_wave(tiny_model: TinyModel) -> None:
    model = tiny_model()
    sampling = Sampling(max_tokens=30, temperature=1.0, n=6, seed=3, stop=("e", "a"))
    whole = model.generate([ASKED], sampling)[0]
    model.memory_bytes = 1
    found = model.generate([ASKED], sampling)[0]
    assert [(c.text, c.finish_reason) for c in found] == [(c.text, c.finish_reason) for c in whole]
    assert any(c.finish_reason == "stop" for c in found)
