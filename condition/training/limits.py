"""How long a row may be, and what is said of one that is longer.

The limit is the model's context, less what an adapter puts before each row, or the settings' own where that is less.
Only the latter can be raised, so only then is that advised.
"""

from __future__ import annotations

from typing import Self

from condition.models.local import LocalModel
from condition.training.settings import Settings


class Limits(Settings):
    """Settings, and the tokens of the context that an adapter takes before each row."""

    taken: int = 0

    @classmethod
    def beside(cls, settings: Settings, taken: int) -> Self:
        """The same settings, with so many tokens taken."""
        return cls(**{name: getattr(settings, name) for name in Settings.model_fields}, taken=taken)


def limit_of(model: LocalModel, settings: Settings) -> int:
    """Most tokens in a row."""
    room = _room(model, settings)
    return min(settings.max_length or room, room)


def over_limit(where: str, tokens: int, model: LocalModel, settings: Settings, cut: str = "the longest message") -> str:
    """Words for a row that is too long and that nothing is to be done with. `cut` is what trimming would cut."""
    limit, room, taken = limit_of(model, settings), _room(model, settings), getattr(settings, "taken", 0)
    why, also = "", f", or a larger max_length, up to {room:,}"
    if limit == room:
        why, also = ", the model's context", ""
    if limit == room and taken:
        why, also = f", the model's context of {model.context:,} less the adapter's {taken:,}", ", or a shorter adapter"
    choices = f"Settings(too_long='drop'){',' if also else ' or'} too_long='trim' to cut {cut}{also}"
    return f"{where} has {tokens:,} tokens, the limit is {limit:,}{why}. Choose: {choices}"


def _room(model: LocalModel, settings: Settings) -> int:
    return model.context - getattr(settings, "taken", 0)
