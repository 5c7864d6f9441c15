"""Words that must not be said, and words that must be, in whatever tokens.

    from condition import JSONSchema, Words

    Words(ban=["obviously", "of course"])
    Words(require=["Orla"]) & Words(ban=["bridge"])
    JSONSchema({"type": "string"}) & Words(ban=["never"])

A word is looked for in the decoded text, whatever its case, and as a whole: banning "ass" leaves "class" alone. A word
ends at everything but letters, digits, marks and "_". A phrase may have spaces, which stand for any white space.

No beginning of the text holds a banned word, so that it does not stand there while it is streamed nor where the text is
cut off. "Assess" can therefore be said in a token that goes beyond "ass", not behind one that ends with it.

Only whole characters are said: no byte that is none, and no beginning that the tokens left could not finish.

A text does not end before it holds all required words. Where only as many tokens are left as these take, they are
written one after the other, and the text ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from condition.control.combined import Combined, both
from condition.control.limits import Follow, Follower, Limits, Mask, limits
from condition.control.phrases import Phrases, folded
from condition.control.vocabulary import Vocabulary
from condition.errors import ControlError
from condition.types import Value

CHARACTER_BYTES = 4
"""At the most, in UTF-8, and a token holds one of them at least."""


@final
class Words(Value):
    """Words or phrases that the text must hold, and that it must not.

    Raises ControlError for none at all, for an empty one, and for a required phrase that holds a banned one.
    """

    require: tuple[str, ...] = ()
    ban: tuple[str, ...] = ()

    def __init__(self, require: Iterable[str] = (), ban: Iterable[str] = ()) -> None:
        super().__init__(require=_words("require", require), ban=_words("ban", ban))
        if not self.require and not self.ban:
            raise ControlError('Words needs words: write Words(ban=["never"]) or Words(require=["bridge"])')
        banned = Phrases(self.ban)
        for phrase in self.require:
            if hit := banned.standing(banned.after(0, phrase.encode())):
                raise ControlError(f"{phrase!r} is required and holds {self.ban[min(hit)]!r}, which is banned")

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> Limits:
        """Masks what would say a banned word or end too early."""
        return limits(self, tokenizer)

    def followed(self, vocabulary: Vocabulary, /) -> Follow:
        """Readers of the text."""

        def follow(spaced: bool) -> Follower:
            return _Both(self, vocabulary)

        return follow

    def __and__(self, other: object) -> Combined:
        return both(self, other)


@final
class _Both:
    """Both kinds along one sample."""

    def __init__(self, words: Words, vocabulary: Vocabulary) -> None:
        self.banned = _Banned(_bans(vocabulary, words.ban))
        self.required = _Required(words.require, vocabulary) if words.require else None

    def limit(self, mask: Mask, left: int | None) -> bool:
        may_end = True
        if self.required is not None:
            may_end = self.required.limit(mask, left)
            left = self.required.spare(left)
        return self.banned.limit(mask, left) and may_end

    def push(self, token: int) -> None:
        self.banned.push(token)
        if self.required is not None:
            self.required.push(token)


@final
class _Bans:
    """What may follow each beginning of banned words; worked out once for each, for all tokens together."""

    def __init__(self, vocabulary: Vocabulary, phrases: tuple[str, ...]) -> None:
        self.phrases = Phrases(phrases)
        self.pieces = vocabulary.pieces
        lengths = np.array([len(piece) for piece in self.pieces])
        self._order = np.argsort(-lengths, kind="stable")  # the longest first: those with an nth byte lie together
        self._starts = (np.cumsum(lengths) - lengths)[self._order]
        self._counts = [int((lengths > n).sum()) for n in range(lengths.max(initial=0))]
        self._bytes = np.frombuffer(b"".join(self.pieces), np.uint8)
        self._masks: dict[tuple[int, bool], Mask] = {}

    def mask(self, state: int, *, whole: bool) -> Mask:
        """Tokens behind which no banned word stands, nor, if `whole`, half a character."""
        if (state, whole) not in self._masks:
            behind = np.full(len(self.pieces), state, np.int32)
            for n, count in enumerate(self._counts):
                behind[:count] = self.phrases.after_each(behind[:count], self._bytes[self._starts[:count] + n])
            clean = np.array([self._is_clean(s, whole) for s in range(len(self.phrases))])
            allowed = np.empty(len(behind), np.bool_)
            allowed[self._order] = clean[behind]
            self._masks[state, whole] = _packed(allowed)
        return self._masks[state, whole]

    def _is_clean(self, state: int, whole: bool) -> bool:
        own = self.phrases
        return not own.standing(state) and not own.broken(state) and (own.whole(state) or not whole)


@lru_cache(maxsize=16)
def _bans(vocabulary: Vocabulary, phrases: tuple[str, ...]) -> _Bans:
    return _Bans(vocabulary, phrases)


@final
class _Banned:
    def __init__(self, bans: _Bans) -> None:
        self.bans, self.state = bans, 0

    def limit(self, mask: Mask, left: int | None) -> bool:
        is_whole = self.bans.phrases.whole(self.state)
        mask &= self.bans.mask(self.state, whole=is_whole and left is not None and left < CHARACTER_BYTES)
        return is_whole

    def push(self, token: int) -> None:
        self.state = self.bans.phrases.after(self.state, self.bans.pieces[token])


@final
class _Required:
    def __init__(self, words: tuple[str, ...], vocabulary: Vocabulary) -> None:
        self.phrases, self.pieces = Phrases(words), vocabulary.pieces
        self.spelled = [vocabulary.encode(f" {word}") for word in words]
        self.state = 0
        self.began = False
        self.plan: list[int] | None = None  # what is written now that there is no room for more

    def limit(self, mask: Mask, left: int | None) -> bool:
        standing = self.phrases.standing(self.state)
        missing = [n for n in range(len(self.spelled)) if n not in standing]
        if left is not None:
            self._check(left)
            cost = self._cost(self.phrases.found(self.state))
            if self.plan is None and cost and left <= cost + 1:  # one for the stop token
                self.plan = [token for n in missing for token in self.spelled[n]]
        if self.plan is not None:
            only = np.zeros_like(mask)
            if self.plan:
                only[self.plan[0] // 32] = np.uint32(1 << self.plan[0] % 32).view(np.int32)
            mask &= only
        return not missing

    def spare(self, left: int | None) -> int | None:
        """Tokens left before the words that are missing have to be written; none where they are being written."""
        if left is None or self.plan is not None:
            return None
        cost = self._cost(self.phrases.found(self.state))
        return left - cost - 1 if cost else left

    def push(self, token: int) -> None:
        self.state = self.phrases.after(self.state, self.pieces[token])
        if self.plan:
            del self.plan[0]

    def _cost(self, found: frozenset[int]) -> int:
        """Tokens of the words that may be missing after any one token more."""
        return sum(len(tokens) for n, tokens in enumerate(self.spelled) if n not in found)

    def _check(self, left: int) -> None:
        if not self.began and left < (cost := self._cost(frozenset())):
            raise ControlError(f"the required words take {cost} tokens and {left} may be said: raise max_tokens")
        self.began = True


def _packed(allowed: NDArray[np.bool_]) -> Mask:
    padded = np.zeros(-(-len(allowed) // 32) * 32, np.bool_)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.int32)


def _words(name: str, given: object) -> tuple[str, ...]:
    """Each phrase once, with single spaces."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ControlError(f'Words({name}=…) takes a list of words, such as ["never", "of course"], not {given!r:.80}')
    found: dict[str, str] = {}
    for word in given:
        if not isinstance(word, str) or not word.strip():
            raise ControlError(f"Words({name}=…) was given {word!r:.80}, which is no word")
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ControlError(f"Words({name}=…) was given half a character, which no model says: {error}") from error
        found.setdefault(folded(word), " ".join(word.split()))
    return tuple(found.values())
