"""A tokenizer's tokens as bytes, read once for each tokenizer."""

from __future__ import annotations

import json
import threading
from functools import cache
from typing import Any, cast, final
from weakref import WeakKeyDictionary

from llguidance import LLTokenizer, TokenizerWrapper
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from condition.errors import ControlError


@final
class Vocabulary:
    """What each token of a tokenizer writes. Made by `vocabulary_of`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        eos = tokenizer.eos_token_id
        self.end = int(next(iter(tokenizer.all_special_ids), 0) if eos is None else eos)
        """What ends a text for llguidance."""
        self.parsed = _parsed(tokenizer, self.end)
        """The same for llguidance."""
        self.size = int(self.parsed.vocab_size)
        self.stops = () if eos is None else (self.end,)
        """What ends a text where nobody says otherwise."""
        silent = {*tokenizer.all_special_ids, *(n for n, t in tokenizer.added_tokens_decoder.items() if t.special)}
        self.pieces = [b"" if n in silent else self._piece(tokenizer, n) for n in range(self.size)]
        """Bytes of each token; none where decoding leaves the token out."""
        _check(tokenizer, self.pieces)
        self.drops_space = drops_space(tokenizer)
        self.kept_spaces = [n for n, piece in enumerate(self.pieces) if piece == b" " and tokenizer.decode([n]) == " "]
        """Spaces that it would not leave out, such as one that is written as a byte."""

    def _piece(self, tokenizer: PreTrainedTokenizerBase, number: int) -> bytes:
        # llguidance keeps the byte 0xFF for itself and gives nothing for it
        return self.parsed.decode_bytes([number]) or (b"\xff" if tokenizer.decode([number]) else b"")

    def encode(self, text: str) -> list[int]:
        """Tokens that write exactly this."""
        ids = list(self.parsed.tokenize_str(text))
        if b"".join(self.pieces[i] for i in ids) != text.encode():
            ids = list(self.parsed.greedy_tokenize(text))
        return ids


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The vocabulary of a tokenizer. Raises ControlError where its tokens can't be read as bytes."""
    with _LOCK:
        known = _KNOWN.get(tokenizer)
        if known is None or known[0] != len(tokenizer):  # tokens may have been added
            known = len(tokenizer), Vocabulary(tokenizer)
            _KNOWN[tokenizer] = known
        return known[1]


def drops_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether decoding leaves out a space at the beginning, as SentencePiece tokenizers do."""
    ids = tokenizer.encode("a a", add_special_tokens=False)
    ends = [str(tokenizer.decode(ids[n:], skip_special_tokens=True)) for n in range(len(ids))]
    return bool(ends) and ends[0].endswith("a a") and " a" not in ends


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, Vocabulary]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def _parsed(tokenizer: PreTrainedTokenizerBase, end: int) -> LLTokenizer:
    try:
        own = json.loads(cast(PreTrainedTokenizerFast, tokenizer).backend_tokenizer.to_str())
        own["padding"] = own["truncation"] = None
        own["decoder"] = _readable(own["decoder"])
        return LLTokenizer(json.dumps(own), eos_token=end)
    except Exception as error:  # whatever a foreign reader may say
        raise _unreadable(tokenizer, str(error)) from error


def _readable(decoder: dict[str, Any]) -> dict[str, Any]:
    """The same decoder, for llguidance, which reads spaces only where they are written as a replacement."""
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    for part in parts:
        if part["type"] == "Metaspace":
            space = {"type": "Replace", "pattern": {"String": part["replacement"]}, "content": " "}
            return {"type": "Sequence", "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    return decoder


def _check(tokenizer: PreTrainedTokenizerBase, pieces: list[bytes]) -> None:
    """Raises ControlError where tokens together are not what they are one by one."""
    ids = tokenizer.encode(_PROBE, add_special_tokens=False)
    whole = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    if b"".join(pieces[i] for i in ids).strip() != whole.strip().encode():
        raise _unreadable(tokenizer, f"{_PROBE!r} is not what its tokens write one by one")


def _unreadable(tokenizer: PreTrainedTokenizerBase, why: str) -> ControlError:
    return ControlError(
        f"the tokens of this tokenizer ({type(tokenizer).__name__}) can't be read as bytes, so that nothing can limit "
        f"them: {why}. Use a byte-level or SentencePiece tokenizer in its fast form"
    )


_PROBE = "The bridge at Orla, built in 1784: naïve, 中文!"


class _Bytes:
    """The smallest tokenizer: a token a byte, and one that ends the text."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([n]) for n in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@cache
def byte_tokenizer() -> LLTokenizer:
    """For grammars that are looked at before there is a model."""
    return LLTokenizer(TokenizerWrapper(_Bytes()))
