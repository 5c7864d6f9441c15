"""How long a row may be, and what is said of one that is longer.

The limit is the model's context, less what an adapter puts before each row, or the settings' own where that is less.
Only the latter can be raised, so only then is that advised.
"""

from __future__ import annotations

from condition.models.local import LocalModel
from condition.training.settings import Settings


def limit_of(model: LocalModel, settings: Settings, taken: int) -> int:
    """Most tokens in a row; `taken` are those that an adapter puts before it."""
    room = model.context - taken
    return min(settings.max_length or room, room)


def over_limit(
    where: str, tokens: int, model: LocalModel, settings: Settings, taken: int, cut: str = "the longest message"
) -> str:
    """Words for a row that is too long and that nothing is to be done with. `cut` is what trimming would cut."""
    limit, room = limit_of(model, settings, taken), model.context - taken
    why, also = "", f", or a larger max_length, up to {room:,}"
    if limit == room:
        why, also = ", the model's context", ""
    if limit == room and taken:
        why, also = f", the model's context of {model.context:,} less the adapter's {taken:,}", ", or a shorter adapter"
    choices = f"Settings(too_long='drop'){',' if also else ' or'} too_long='trim' to cut {cut}{also}"
    return f"{where} has {tokens:,} tokens, the limit is {limit:,}{why}. Choose: {choices}"
