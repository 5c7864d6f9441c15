"""Which of several choices a model prefers, by their log-probabilities.

    choices = Choices(("Paris", "the town of Rouen"), scores)     # one Score a choice
    likeliest(choices), by_chars(choices), by_tokens(choices)     # places of the preferred choice
    pmi(choices, unconditional)                                   # less what each choice is worth without the question

Each gives the first of several that are equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from condition.errors import DataError
from condition.prompts.parse import Parser, letter
from condition.types import Score

_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese, and Korean, whose endings stand behind a word."""


class Choices(NamedTuple):
    """Texts with a Score each."""

    texts: Sequence[str]
    scores: Sequence[Score]


def likeliest(choices: Choices) -> int:
    """By the log-probability of the whole choice."""
    return _best([score.logprob for score in _checked(choices)])


def by_chars(choices: Choices) -> int:
    """By log-probability a character, which does not prefer short choices: lm-evaluation-harness' `acc_norm`."""
    scores = _checked(choices)
    return _best([score.logprob / len(text) for text, score in zip(choices.texts, scores, strict=True)])


def by_tokens(choices: Choices) -> int:
    """By log-probability a token. Brown et al. 2020, arXiv 2005.14165."""
    return _best([score.logprob / max(1, score.tokens) for score in _checked(choices)])


def pmi(choices: Choices, unconditional: Sequence[Score]) -> int:
    """By how much the question raises a choice: log p(choice | question) - log p(choice | a prompt without it).

    Holtzman et al. 2021, arXiv 2104.08315.
    """
    scores = _checked(choices)
    _checked(Choices(choices.texts, unconditional))
    return _best([one.logprob - other.logprob for one, other in zip(scores, unconditional, strict=True)])


def calibrated(choices: Choices, content_free: Sequence[Sequence[Score]]) -> int:
    """By probability among the choices, divided by the mean of what the same prompt gives to words without content.

    Contextual calibration: Zhao et al. 2021, arXiv 2102.09690.
    """
    if not content_free:
        raise DataError("calibration needs the choices' scores behind at least one prompt without content")
    own = _normalised(_checked(choices))
    empty = [_normalised(_checked(Choices(choices.texts, scores))) for scores in content_free]
    leaning = [math.log(sum(map(math.exp, column)) / len(empty)) for column in zip(*empty, strict=True)]
    return _best([value - bias for value, bias in zip(own, leaning, strict=True)])


def read_choice(text: str, choices: Sequence[str]) -> int | None:
    """The choice that a written reply means; none where that can't be told.

    The reply is a choice, or names a letter where the choices are letters, or begins with a choice (the longest), or
    holds just one of them. Words count whole: "nothing" does not begin with "no". Case does not matter, except for
    letters.
    """
    bare = [choice.strip() for choice in choices]
    said = text.strip().strip(".\"'").casefold()
    same = [i for i, choice in enumerate(bare) if choice.strip(".\"'").casefold() == said]
    if same:
        return same[0]
    if all(len(choice) == 1 and choice.isupper() for choice in bare):
        return _read(letter("".join(bare)), text, bare)
    places = {i: _place(choice.casefold(), said) for i, choice in enumerate(bare)}
    begins = [i for i, place in places.items() if place == 0]
    if begins:
        return max(begins, key=lambda i: len(bare[i]))
    named = {bare[i]: i for i, place in reversed(places.items()) if place is not None}
    return next(iter(named.values())) if len(named) == 1 else None


def _place(choice: str, text: str) -> int | None:
    """Where a text has a choice first, as whole words; scripts without spaces have none to keep apart."""
    before = r"(?<!\w)" if _is_of_words(choice[0]) else ""
    behind = r"(?!\w)" if _is_of_words(choice[-1]) else ""
    found = re.search(f"{before}{re.escape(choice)}{behind}", text)
    return None if found is None else found.start()


def _is_of_words(sign: str) -> bool:
    return re.match(_UNSPACED, sign) is None


def _read(parse: Parser[str], text: str, choices: Sequence[str]) -> int | None:
    try:
        return choices.index(parse(text))
    except ValueError:
        return None


def _checked(choices: Choices) -> Sequence[Score]:
    if not choices.texts or len(choices.texts) != len(choices.scores):
        raise DataError(f"{len(choices.texts)} choices and {len(choices.scores)} scores: one score a choice, please")
    if any(math.isnan(score.logprob) for score in choices.scores):
        raise DataError(f"a choice has a log-probability that is no number: {[s.logprob for s in choices.scores]}")
    return choices.scores


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _normalised(scores: Sequence[Score]) -> list[float]:
    most = max(score.logprob for score in scores)
    total = most + math.log(sum(math.exp(score.logprob - most) for score in scores))
    return [score.logprob - total for score in scores]
