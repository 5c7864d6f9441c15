"""Asking moderators about many texts. Whatever goes wrong with one is a refusal, never a pass.

    verdicts(WordList(["darn"]), ["fine", "Darn!", None])      # allowed, refused, refused: no text
    verdicts([words, classifier], texts)                       # the first that refuses has the word

A moderator with a method `many(texts) -> list[Verdict]` gets all texts in one call; any other one text at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

from condition.errors import SettingsError
from condition.protocols import Moderator
from condition.types import Verdict

log = logging.getLogger("condition.moderation")

UNCHECKED = "unchecked"
"""The category of what no moderator could look at."""

Moderators: TypeAlias = Moderator | Sequence[Moderator]


def moderators_of(given: Moderators | None, /) -> tuple[Moderator, ...]:
    """One moderator or several as a tuple. Raises SettingsError for what is none."""
    several = tuple(given) if isinstance(given, list | tuple) else () if given is None else (given,)
    for one in several:
        if isinstance(one, type) or not callable(one):
            raise SettingsError(
                f"{one!r:.80} is no moderator: give a WordList, a fitted classifier, a ModelModerator, or a function "
                "from a text to a Verdict"
            )
    return several


def verdicts(moderators: Moderators, texts: Sequence[Any], /) -> list[Verdict]:
    """A verdict for each text; of several moderators, that of the first that refuses.

    What is no text is refused, and so is a text at which a moderator raises: the reason says why.
    """
    found = [
        Verdict(True) if isinstance(text, str) else Verdict(False, (UNCHECKED,), f"{type(text).__name__} is no text")
        for text in texts
    ]
    for moderator in moderators_of(moderators):
        left = [place for place, verdict in enumerate(found) if verdict.allowed]
        distinct = list(dict.fromkeys(texts[place] for place in left))
        said = dict(zip(distinct, _asked(moderator, distinct), strict=True))
        for place in left:
            found[place] = said[texts[place]]
    return found


def _asked(moderator: Moderator, texts: list[str]) -> list[Verdict]:
    many = getattr(moderator, "many", None)
    if many is None or not texts:
        return [_one(moderator, text) for text in texts]
    try:
        answered = list(many(texts))
        if len(answered) == len(texts) and all(isinstance(verdict, Verdict) for verdict in answered):
            return answered
        problem = f"{len(answered)} answers to {len(texts)} texts, or other than Verdicts"
    except Exception as error:  # one text may be the cause: each is asked about alone
        problem = f"{type(error).__name__}: {error}"
    log.warning("%s.many gave %s; asking about each text alone", type(moderator).__name__, problem)
    return [_one(moderator, text) for text in texts]


def _one(moderator: Moderator, text: str) -> Verdict:
    name = getattr(moderator, "__name__", type(moderator).__name__)
    try:
        answered: object = moderator(text)
    except Exception as error:  # a guard that fails must not open the door
        log.error("%s failed and the text is refused: %s: %s", name, type(error).__name__, error)
        return Verdict(False, (UNCHECKED,), f"{name} failed: {type(error).__name__}: {error}")
    if isinstance(answered, Verdict):
        return answered
    return Verdict(False, (UNCHECKED,), f"{name} gave {type(answered).__name__}, not a Verdict")
