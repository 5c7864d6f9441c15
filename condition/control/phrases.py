"""Where words stand in a text that comes a few bytes at a time, whatever tokens it is cut into.

Letters are compared casefolded and runs of white space are one space. A word begins and ends where letters do: "ass"
stands in "An ass!" and not in "class". The states of this automaton are found when they are first reached.

Bytes that are no UTF-8 break a text for good: tokenizers differ in what they make of them, and of the bytes around.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.int32]

_LETTER, _SPACE, _OTHER = range(3)


class _State(NamedTuple):
    """Behind some bytes."""

    begun: frozenset[tuple[int, int]] = frozenset()
    """Phrases that the text may be in, with how many of their characters have come."""
    last: int = _SPACE
    """The kind of the last character. A text begins like a word behind a space."""
    held: bytes = b""
    """The beginning of a character."""
    found: frozenset[int] = frozenset()
    """Phrases that stand in the text, whatever follows."""
    broken: bool = False


def folded(phrase: str) -> str:
    """A phrase as it is compared."""
    return " ".join(phrase.split()).casefold()


@final
class Phrases:
    """An automaton over bytes that finds some phrases. The first state is 0."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self.phrases = [folded(phrase) for phrase in phrases]
        self._kinds = [(_kind(p[0]), _kind(p[-1])) for p in self.phrases]
        self._states = [_State()]
        self._numbers = {self._states[0]: 0}
        self._next: States = np.full((64, 256), -1, np.int32)  # -1: not looked at

    def __len__(self) -> int:
        """States so far."""
        return len(self._states)

    def found(self, state: int) -> frozenset[int]:
        """Numbers of the phrases that stand in the text, whatever follows."""
        return self._states[state].found

    def standing(self, state: int) -> frozenset[int]:
        """Numbers of the phrases that stand in the text if it ends here."""
        own = self._states[state]
        return own.found | {p for p, said in own.begun if said == len(self.phrases[p])}

    def broken(self, state: int) -> bool:
        """Whether the text is no UTF-8, whatever follows."""
        return self._states[state].broken

    def whole(self, state: int) -> bool:
        """Whether the text ends behind a character and not within one."""
        return not self._states[state].held and not self._states[state].broken

    def after(self, state: int, piece: bytes) -> int:
        """The state behind some bytes more."""
        for byte in piece:
            found = int(self._next[state, byte])
            state = found if found >= 0 else self._look(state, byte)
        return state

    def after_each(self, states: States, bytes_: NDArray[np.uint8]) -> States:
        """The states behind one byte more, a byte for each state."""
        found = self._next[states, bytes_]
        if (found < 0).any():
            for pair in np.unique(states[found < 0] * 256 + bytes_[found < 0]).tolist():
                self._look(*divmod(pair, 256))
            found = self._next[states, bytes_]
        return found

    def _look(self, state: int, byte: int) -> int:
        """Work out where a byte leads."""
        own = self._states[state]
        new = own if own.broken else self._read(own, byte)
        number = self._numbers.setdefault(new, len(self._states))
        if number == len(self._states):
            self._states.append(new)
            if number == len(self._next):
                self._next = np.concatenate([self._next, np.full_like(self._next, -1)])
        self._next[state, byte] = number
        return number

    def _read(self, state: _State, byte: int) -> _State:
        decoder = codecs.getincrementaldecoder("utf-8")()
        decoder.setstate((state.held, 0))
        try:
            text = decoder.decode(bytes([byte]))
        except UnicodeDecodeError:
            return _State(broken=True)
        held = decoder.getstate()[0]
        if held[:1] == b"\xed" and held[1:] >= b"\xa0":  # half of a surrogate pair: no third byte completes it
            return _State(broken=True)
        for character in text.casefold():
            state = self._said(state, character)
        return state._replace(held=held)

    def _said(self, state: _State, character: str) -> _State:
        kind = _kind(character)
        if kind == _SPACE == state.last:
            return state
        character = " " if kind == _SPACE else character
        begun, found = set(), set(state.found)
        fresh = {(p, 0) for p, (first, _) in enumerate(self._kinds) if not first == _LETTER == state.last}
        for p, said in state.begun | fresh:
            phrase, ends = self.phrases[p], self._kinds[p][1]
            if said == len(phrase):
                found |= {p} if kind != _LETTER else set()  # the word went on: it was another one
            elif phrase[said] == character and said + 1 == len(phrase) and ends != _LETTER:
                found.add(p)
            elif phrase[said] == character:
                begun.add((p, said + 1))
        return _State(frozenset(begun), kind, b"", frozenset(found))


def _kind(character: str) -> int:
    if character.isspace():
        return _SPACE
    # Marks too: in many scripts they write the vowels of a word.
    is_letter = character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"
    return _LETTER if is_letter else _OTHER
