"""What may come next, for all samples at once: the one LogitsProcessor behind every control.

Each sample has followers of its own, one for each control; what all of them allow may follow. Masks are packed, a bit
a token, and unpacked once a step for all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from condition.control.vocabulary import Vocabulary, vocabulary_of
from condition.errors import ControlError

Mask = NDArray[np.int32]
"""A bit for each token, `[vocabulary / 32]`, the lowest first."""


class Follower(Protocol):
    """One control along one sample."""

    def limit(self, mask: Mask, left: int | None) -> bool:
        """Clear the bits of what may not follow; whether the text may end here. `left`: tokens that still fit."""
        ...

    def push(self, token: int) -> None:
        """The sample has said a token."""
        ...


Follow = Callable[[bool], Follower]
"""A new Follower. True where the text stands behind a space of its own, which is no part of it."""


class Followed(Protocol):
    """A control of ours, which others can be joined with."""

    def followed(self, vocabulary: Vocabulary, /) -> Follow: ...


def limits(control: Followed, tokenizer: PreTrainedTokenizerBase) -> Limits:
    """The processor of a control."""
    vocabulary = vocabulary_of(tokenizer)
    return Limits(vocabulary, control.followed(vocabulary))


@final
class Limits(LogitsProcessor):
    """Takes away what may not follow. Made for one call; a row of `input_ids` is a prompt and what it has said.

    Used by itself in `generate`, it raises ControlError where nothing may follow; who calls `begin` finds such rows.
    """

    def __init__(self, vocabulary: Vocabulary, follow: Follow) -> None:
        self.vocabulary, self.follow = vocabulary, follow
        self._rows: list[Follower | None] = []  # None: has ended
        self._stops: list[list[int]] = []
        self._most: int | None = None
        self._said = -1  # tokens; nothing has begun
        self._last: Tensor | None = None  # of each row, as it was shown
        self._watched = False

    def begin(self, stops: Sequence[Collection[int]], spaced: Sequence[bool], most: int) -> None:
        """What ends each row, whether a space stands before it that is not its own, and how many tokens it may say."""
        self._stops = [[*own] for own in stops]
        self._rows = [self.follow(space or self.vocabulary.drops_space) for space in spaced]
        self._most = most
        self._watched = True

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only. One that stands twice goes on once."""
        seen: set[int] = set()
        kept: list[Follower | None] = []
        for row in rows:
            kept.append(None if row in seen else self._rows[row])
            seen.add(row)
        self._rows, self._stops = kept, [self._stops[row] for row in rows]
        self._last = None if self._last is None else self._last[torch.tensor(rows, device=self._last.device)]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self._rows:
            self._rows = [self.follow(self.vocabulary.drops_space) for _ in range(len(input_ids))]
            self._stops = [[*self.vocabulary.stops]] * len(self._rows)
        if self._last is not None and not torch.equal(self._last, input_ids[:, -2]):
            raise ControlError(
                "these rows are not those of the step before: ask control.processor(tokenizer) anew for each call, and "
                "sample without beams"
            )
        self._last = input_ids[:, -1]
        self._said += 1
        if self._said:
            self._push(input_ids[:, -1].tolist())
        allowed = torch.from_numpy(self._allowed(scores.shape[-1])).to(scores.device)
        if not self._watched and not bool(allowed.any(-1).all()):
            raise ControlError("no token may follow what was said: this limit can't be satisfied here")
        return scores.masked_fill(~allowed, float("-inf"))

    def _push(self, tokens: list[int]) -> None:
        for number, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            if row is not None and token in self._stops[number]:
                self._rows[number] = None
            elif row is not None:
                row.push(token)

    def _allowed(self, width: int) -> NDArray[np.bool_]:
        """`[rows, width]`; a row that has ended may say anything."""
        left = None if self._most is None else self._most - self._said
        words = -(-self.vocabulary.size // 32)
        packed = np.full((len(self._rows), max(words, -(-width // 32))), -1, np.int32)
        ends = [row is None or row.limit(packed[i, :words], left) for i, row in enumerate(self._rows)]
        bits = np.unpackbits(packed.view(np.uint8), axis=1, count=width, bitorder="little").view(np.bool_)
        for number, (row, may_end) in enumerate(zip(self._rows, ends, strict=True)):
            if row is not None:
                bits[number, self.vocabulary.size :] = False  # a network may know more tokens than its tokenizer
                bits[number, self.vocabulary.end] = False
                if self.vocabulary.drops_space and not self._said:
                    bits[number, self.vocabulary.kept_spaces] = False
                bits[number, self._stops[number]] = may_end
        return cast(NDArray[np.bool_], bits)
