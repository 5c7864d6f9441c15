from __future__ import annotations

import math

import pytest

from condition.errors import DataError
from condition.evaluation.metrics import perplexity
from condition.evaluation.metrics.likelihood import counts
from condition.types import Score


def test_by_hand() -> None:
    found = counts(Score(-8 * math.log(2), 4, 5), "ab cé")  # 8 bits: 4 tokens, 2 words, 6 bytes
    assert found == (pytest.approx(-8 * math.log(2)), 4, 2, 6)
    values = perplexity(found)
    assert values["token_perplexity"] == pytest.approx(4)
    assert values["word_perplexity"] == pytest.approx(16)
    assert values["byte_perplexity"] == pytest.approx(2 ** (8 / 6))
    assert values["bits_per_byte"] == pytest.approx(8 / 6)


def test_words_are_counted_as_lm_evaluation_harness_does() -> None:
    """It splits at white space, and so counts an empty word before and behind what begins or ends with some."""
    assert counts(Score(-1.0, 1, 9), "\nab  cd\n")[2] == 4


def test_no_perplexity() -> None:
    assert math.isfinite(perplexity((-1e9, 1, 1, 1))["word_perplexity"])
    with pytest.raises(DataError, match="has no perplexity"):
        perplexity((float("nan"), 1, 1, 1))
    with pytest.raises(DataError, match="without tokens"):
        perplexity((0.0, 0, 0, 0))
