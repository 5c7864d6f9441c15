"""Tokens as bytes, of tokenizers that are built differently."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from condition.control.grammar import Choice, Regex
from condition.control.vocabulary import _KNOWN, vocabulary_of
from condition.control.words import Words
from condition.errors import ControlError
from condition.models.local import LocalModel
from condition.types import Message, Sampling
from tests.conftest import TinyModel

ASKED = (Message("user", "Who built the bridge?"),)
DRAWN = Sampling(max_tokens=40, temperature=1.0, n=32, seed=0)


SPECIALS = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{n:02X}>" for n in range(256)]
WORDS = [*"▁yesnothbridgwalukf.,;", "▁yes", "▁no", "▁the", "▁oak", "oak", "▁bridge"]


def _sentencepiece_like(decoder: Any) -> PreTrainedTokenizerBase:
    """Spaces written as ▁, other characters as bytes; decoding leaves out the space at the beginning, as Llama's."""
    vocabulary = {token: n for n, token in enumerate(dict.fromkeys([*SPECIALS, *BYTES, *WORDS]))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


DECODERS = {
    "replaced": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "metaspace": decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    ),
}


@pytest.fixture(params=DECODERS)
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> LocalModel:
    tokenizer = _sentencepiece_like(DECODERS[request.param])
    built = tiny_model(vocab_size=len(tokenizer))
    return LocalModel(built.network, tokenizer, source=built.source)


def test_a_space_that_decoding_leaves_out_is_no_part_of_the_text(model: LocalModel) -> None:
    assert vocabulary_of(model.tokenizer).drops_space
    for asked in (ASKED, (Message("text", "Who?"),)):
        drawn = DRAWN.model_copy(update={"n": 96})
        [found] = model.generate([asked], drawn, control=Choice(["yes", "the oak", "naïve 中", " no"]))
        assert {c.text for c in found if c.finish_reason == "stop"} == {"yes", "the oak", "naïve 中", " no"}


def test_expressions_and_words_hold_there_too(model: LocalModel) -> None:
    [found] = model.generate([ASKED], DRAWN, control=Regex("[a-z]{2,5}( [a-zé]{2,5}){1,3}") & Words(ban=["oak", "br"]))
    texts = [c.text for c in found if c.finish_reason == "stop"]
    assert len(texts) > 16
    assert all(re.fullmatch("[a-z]{2,5}( [a-zé]{2,5}){1,3}", text) for text in texts)
    assert not any(re.search(r"\b(oak|br)\b", c.text) for c in found)
    [found] = model.generate([ASKED], DRAWN, control=Words(require=["oak"]))
    assert all(re.search(r"\boak\b", c.text.casefold()) for c in found)


def test_broken_bytes_do_not_uncover_a_word(model: LocalModel) -> None:
    """Such a tokenizer writes U+FFFD for each byte of a run that is no UTF-8, letters included."""
    ids = model.tokenizer.convert_tokens_to_ids
    run = [ids("oak"), ids("<0x6B>"), ids("<0xB5>")]
    assert model.tokenizer.decode(run[:2]) == "oakk"
    assert model.tokenizer.decode(run) == "oak\ufffd\ufffd"
    [found] = model.generate([ASKED], DRAWN, control=Words(ban=["oak", "yes", "no", "bridge"]))
    assert not [c.text for c in found if re.search(r"\b(oak|yes|no|bridge)\b|\ufffd", c.text.casefold())]


def test_a_vocabulary_is_read_once_and_goes_with_its_tokenizer(tiny_model: TinyModel) -> None:
    tokenizer = tiny_model().tokenizer
    known = vocabulary_of(tokenizer)
    assert vocabulary_of(tokenizer) is known
    tokenizer.add_tokens(["<new>"])
    assert vocabulary_of(tokenizer) is not known
    assert vocabulary_of(tokenizer).pieces[-1] == b"<new>"
    before = len(_KNOWN)
    del tokenizer, known
    gc.collect()
    assert len(_KNOWN) < before


def test_the_byte_that_no_text_has(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    assert vocabulary_of(tiny_tokenizer).pieces[int(tiny_tokenizer.convert_tokens_to_ids("ÿ"))] == b"\xff"


def test_special_tokens_write_nothing(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = vocabulary_of(tiny_tokenizer).pieces
    assert pieces[:3] == [b"", b"", b""]
    text = " The bridge, naïve 中!\n"
    assert b"".join(pieces[i] for i in tiny_tokenizer.encode(text)) == text.encode()
    assert b"".join(pieces[i] for i in vocabulary_of(tiny_tokenizer).encode(text)) == text.encode()


def test_what_tokens_write_together_has_to_be_what_they_write_apart() -> None:
    with pytest.raises(ControlError, match="is not what its tokens write one by one"):
        vocabulary_of(_sentencepiece_like(decoders.Sequence([decoders.ByteFallback(), decoders.Replace("T", "t")])))
