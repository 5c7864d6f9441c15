"""Perplexity: of tokens, words and bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from condition.errors import DataError
from condition.types import Score

PERPLEXITIES = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


def counts(score: Score, text: str) -> tuple[float, float, float, float]:
    """What a text adds to a corpus: log-probability, tokens, words and bytes, as lm-evaluation-harness counts them."""
    return score.logprob, score.tokens, len(re.split(r"\s+", text)), len(text.encode())


def perplexity(sums: Sequence[float]) -> dict[str, float]:
    """exp(-log-probability / count) for tokens, words and bytes, from `counts` or sums of them.

    Raises DataError for a log-probability that is no number, and for no tokens.
    """
    logprob, tokens, words, size = sums
    if not math.isfinite(logprob):
        raise DataError(f"a text with the log-probability {logprob} has no perplexity")
    if tokens < 1 or words < 1 or size < 1:
        raise DataError("a text without tokens has no perplexity")
    values = (_exp(-logprob / tokens), _exp(-logprob / words), _exp(-logprob / size), -logprob / size / math.log(2))
    return dict(zip(PERPLEXITIES, values, strict=True))


def _exp(value: float) -> float:
    """Of a long word's surprise, the exponential may be more than a float holds."""
    return math.exp(min(value, 700.0))
