from __future__ import annotations

import codecs
import re
import unicodedata
from itertools import combinations

import numpy as np
import pytest
import torch

from condition.control.grammar import Choice, Regex
from condition.control.vocabulary import vocabulary_of
from condition.control.words import Words
from condition.errors import ControlError
from condition.models.local import LocalModel
from condition.types import Completion, Message, Sampling
from tests.conftest import TinyModel

ASKED = (Message("user", "Who built the bridge?"),)


def _samples(model: LocalModel, control: Words | None, n: int, max_tokens: int = 32, seed: int = 0) -> list[Completion]:
    sampling = Sampling(max_tokens=max_tokens, temperature=1.0, n=n, seed=seed)
    return model.generate([ASKED], sampling, control=control)[0]


def _holds(text: str, phrase: str) -> bool:
    """By a regular expression over the whole text. Marks, which are no `\\w`, are parts of words: read as letters."""
    plain = "".join("x" if unicodedata.category(c)[0] == "M" else c for c in text.casefold())
    spaced = re.sub(r"\s+", " ", plain)
    return bool(re.search(rf"(?<!\w){re.escape(phrase.casefold())}(?!\w)", spaced))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_no_sample_holds_a_banned_word(tiny_model: TinyModel, family: str) -> None:
    banned = ("a", "in", "the", "bridge", "T h", "é", "rebuilt")
    model = tiny_model(family)
    free, limited = _samples(model, None, 500), _samples(model, Words(ban=banned), 500)
    assert sum(_holds(c.text, word) for c in free for word in banned) > 50
    assert not [c.text for c in limited for word in banned if _holds(c.text, word)]
    assert {c.finish_reason for c in limited} <= {"stop", "length"}


def _tokenizations(model: LocalModel, text: str) -> list[list[int]]:
    """All ways to write a text."""
    pieces = vocabulary_of(model.tokenizer).pieces
    numbers = {piece: n for n, piece in enumerate(pieces) if piece}
    data = text.encode()
    found = []
    for count in range(len(data)):
        for cuts in combinations(range(1, len(data)), count):
            parts = [data[a:b] for a, b in zip((0, *cuts), (*cuts, len(data)), strict=True)]
            if all(part in numbers for part in parts):
                found.append([numbers[part] for part in parts])
    return found


def _follows(model: LocalModel, control: Words, tokens: list[int]) -> bool:
    """Whether every token may follow those before it."""
    processor = control.processor(model.tokenizer)
    ids = torch.tensor([[5, 6]])
    for token in tokens:
        if processor(ids, torch.zeros(1, 512))[0, token] == float("-inf"):
            return False
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return True


@pytest.mark.parametrize("text", ["bridge", " bridge", " BRidge", "\nbrIdge"])
def test_no_tokenization_says_a_banned_word(tiny_model: TinyModel, text: str) -> None:
    model = tiny_model()
    ways = _tokenizations(model, text)
    assert len(ways) > 1
    assert all(_follows(model, Words(ban=["bride"]), way) for way in ways)
    assert not any(_follows(model, Words(ban=["Bridge"]), way) for way in ways)


def test_a_word_in_another_may_be_said(tiny_model: TinyModel) -> None:
    model = tiny_model()
    words = Words(ban=["an", "ridge"])
    assert all(_follows(model, words, way) for way in _tokenizations(model, "ridges")[:1]) is False
    assert all(_follows(model, words, way) for way in _tokenizations(model, "bridge"))
    [found] = model.generate([ASKED], Sampling(temperature=1.0, n=16, seed=0), control=words & Choice(["can", "an"]))
    ended = {(c.text, c.finish_reason) for c in found}
    assert ("can", "stop") in ended <= {("can", "stop"), ("a", "control")}  # "an" can't be said to its end


def test_a_special_token_does_not_hide_a_word(tiny_model: TinyModel) -> None:
    model = tiny_model()
    ids = model.tokenizer.convert_tokens_to_ids
    halves = [ids("n"), model.tokenizer.convert_tokens_to_ids("<|im_start|>"), ids("o")]
    assert model.tokenizer.decode(halves, skip_special_tokens=True) == "no"
    assert not _follows(model, Words(ban=["no"]), halves)
    assert _follows(model, Words(ban=["on"]), halves)


def test_required_words_stand_in_every_text(tiny_model: TinyModel) -> None:
    words = Words(require=["Orla", "oak bridge"], ban=["in"])
    found = _samples(tiny_model(), words, 1000, max_tokens=24)
    assert all(_holds(c.text, "Orla") and _holds(c.text, "oak bridge") for c in found)
    assert {c.finish_reason for c in found} == {"stop"}  # a place is kept for the stop token
    assert any(len(c.token_ids) < 24 for c in found) or all(c.text.endswith(" Orla oak bridge") for c in found)


def test_a_required_word_that_is_there_is_not_said_again(tiny_model: TinyModel) -> None:
    words = Words(require=["oak"])
    for pattern, ends in (("oak( [a-z]{1,3}){0,4}", "stop"), ("[A-Z]{5}", "control")):
        sampling = Sampling(max_tokens=30, temperature=1.0, n=16, seed=0)
        [found] = tiny_model().generate([ASKED], sampling, control=Regex(pattern) & words)
        assert {c.finish_reason for c in found} == {ends}
        assert all(re.fullmatch(pattern, c.text) for c in found)


def test_required_words_need_room(tiny_model: TinyModel) -> None:
    model = tiny_model()
    cost = len(vocabulary_of(model.tokenizer).encode(" Constantinople"))
    with pytest.raises(ControlError, match=rf"take {cost} tokens and {cost - 1} may be said"):
        _samples(model, Words(require=["Constantinople"]), 1, max_tokens=cost - 1)
    [tight] = _samples(model, Words(require=["Constantinople"]), 1, max_tokens=cost)
    assert (tight.text, tight.finish_reason) == (" Constantinople", "length")


def test_words_are_values() -> None:
    words = Words(require=("of  course", "Of course"), ban=["b"])
    assert words == Words(["of course"], ["b"])
    assert hash(words) == hash(Words(["of course"], ["b"]))
    assert words != Words(ban=["b"])


def test_what_is_no_word_is_refused() -> None:
    for wrong in (Words, lambda: Words(ban="never"), lambda: Words(ban=[" "]), lambda: Words(require=["\ud800"])):
        with pytest.raises(ControlError, match=r"word|half a character"):
            wrong()
    with pytest.raises(ControlError, match="'the Bridge' is required and holds 'bridge', which is banned"):
        Words(require=["the Bridge"], ban=["bridge"])


def _is_utf8(text: bytes) -> bool:
    """True also for one that ends within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        return False
    return True


def _says(text: bytes, banned: tuple[str, ...]) -> bool:
    return any(_holds(text.decode(errors="replace"), word) for word in banned)


def test_only_whole_characters_are_said(tiny_model: TinyModel) -> None:
    for words in (Words(ban=["the"]), Words(require=["Orla"]), Words(["naïve 中文"], ["the"])):
        found = _samples(tiny_model(), words, 64, max_tokens=16)
        assert not [c.text for c in found if "\ufffd" in c.text]
        assert any(not c.text.isascii() for c in found)


def test_masks_are_those_of_one_token_at_a_time(tiny_model: TinyModel) -> None:
    model = tiny_model()
    words = Words(ban=["ass", "new york", "é"])
    pieces = vocabulary_of(model.tokenizer).pieces
    for said in ("", "a", "An as", "New\n", "caf\xe9"[:3]):
        ids = model.tokenizer.encode(said, add_special_tokens=False)
        processor = words.processor(model.tokenizer)
        row = torch.tensor([[5]])
        for token in [*ids, None]:
            scores = processor(row, torch.zeros(1, 512))[0]
            row = row if token is None else torch.cat([row, torch.tensor([[token]])], 1)
        text = said.encode()
        expected = [_is_utf8(text + piece) and not _says(text + piece, words.ban) for piece in pieces]
        assert np.array_equal((scores == 0).numpy(), expected)


@pytest.mark.real
def test_the_embedded_model_says_it_in_other_words(embedded: LocalModel) -> None:
    asked, sampling = "What is a bridge? Answer in one sentence.", Sampling(max_tokens=40)
    [[free]] = embedded.generate(asked, sampling)
    [[limited]] = embedded.generate(asked, sampling, control=Words(require=["river"], ban=["bridge", "structure"]))
    assert _holds(free.text, "bridge")
    assert not _holds(limited.text, "bridge")
    assert not _holds(limited.text, "structure")
    assert _holds(limited.text, "river")
    assert len(limited.text.split()) > 8
