"""Controls joined by `&`: what all of them allow.

    from condition import JSONSchema, Words

    JSONSchema({"type": "string"}) & Words(ban=["never"])

They can contradict each other only later on, at a place that none of them sees from afar: that sample ends there.
"""

from __future__ import annotations

from typing import Any, final

from transformers import PreTrainedTokenizerBase

from condition.control.limits import Follow, Followed, Follower, Limits, Mask, limits
from condition.control.vocabulary import Vocabulary
from condition.errors import ControlError
from condition.types import Value


@final
class Combined(Value):
    """Several controls at once. Where they contradict each other later on, that sample ends as `control`."""

    parts: tuple[Any, ...]

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> Limits:
        """Masks what one of the parts does not allow."""
        return limits(self, tokenizer)

    def followed(self, vocabulary: Vocabulary, /) -> Follow:
        """Followers of all parts at once."""
        follows = [part.followed(vocabulary) for part in self.parts]
        return lambda spaced: _All([follow(spaced) for follow in follows])

    def __and__(self, other: object) -> Combined:
        return both(self, other)


def both(one: Followed, other: object) -> Combined:
    """`one & other`. Raises ControlError where the other is no control of this library."""
    if not hasattr(other, "followed"):
        raise ControlError(
            f"{type(other).__name__} can't be joined with &: only Grammar, JSONSchema, Regex, Choice and Words can. "
            "ControlCodes are words of the prompt: write codes(prompt), and give the limits as control="
        )
    return Combined(parts=tuple(part for c in (one, other) for part in (c.parts if isinstance(c, Combined) else (c,))))


@final
class _All:
    def __init__(self, followers: list[Follower]) -> None:
        self.followers = followers

    def limit(self, mask: Mask, left: int | None) -> bool:
        ends = [follower.limit(mask, left) for follower in self.followers]  # none is left out: each clears its bits
        return all(ends)

    def push(self, token: int) -> None:
        for follower in self.followers:
            follower.push(token)
