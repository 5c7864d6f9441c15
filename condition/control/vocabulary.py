"""A tokenizer's tokens as bytes, read once for each tokenizer."""

from __future__ import annotations

import threading
from functools import cache
from typing import cast, final
from weakref import WeakKeyDictionary

from llguidance import LLTokenizer, TokenizerWrapper
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from condition.errors import ControlError


@final
class Vocabulary:
    """What each token of a tokenizer writes. Made by `vocabulary_of`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.parsed = _parsed(tokenizer)
        """The same for llguidance."""
        self.size = int(self.parsed.vocab_size)
        self.stops: tuple[int, ...] = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        """What ends a text where nobody says otherwise."""
        silent = {*tokenizer.all_special_ids, *(n for n, t in tokenizer.added_tokens_decoder.items() if t.special)}
        self.pieces = [b"" if n in silent else self.parsed.decode_bytes([n]) for n in range(self.size)]
        """Bytes of each token; none where decoding leaves the token out."""
        self.drops_space = _drops_space(tokenizer, self.pieces)
        """Whether decoding leaves out a space at the beginning, as SentencePiece tokenizers do."""

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


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, Vocabulary]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def _parsed(tokenizer: PreTrainedTokenizerBase) -> LLTokenizer:
    try:
        return from_tokenizer(cast(PreTrainedTokenizerFast, tokenizer), eos_token=tokenizer.eos_token_id or 0)
    except Exception as error:  # whatever a foreign reader may say
        raise ControlError(
            f"the tokens of this tokenizer ({type(tokenizer).__name__}) can't be read as bytes, so that nothing can "
            f"limit them: {error}. Use a byte-level or SentencePiece tokenizer in its fast form"
        ) from error


def _drops_space(tokenizer: PreTrainedTokenizerBase, pieces: list[bytes]) -> bool:
    spaced = next((n for n, piece in enumerate(pieces) if piece[:1] == b" " and piece[1:].isalpha()), None)
    return spaced is not None and not str(tokenizer.decode([spaced])).startswith(" ")


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
