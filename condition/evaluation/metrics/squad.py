"""Exact match and token F1 of SQuAD v2."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from condition.data.formats import squad_answers
from condition.errors import DataError


def squad_v2(prediction: str, answers: Sequence[str] | Mapping[str, Any]) -> dict[str, float]:
    """Exact match and token F1, as the official SQuAD v2 script computes them. Rajpurkar et al. 2018, arXiv 1806.03822.

    `answers` are the gold answers, or a row's `{"text": [...], "answer_start": [...]}`; none means that there is no
    answer, and then only an empty prediction is right. The best of several gold answers counts.
    Raises DataError for what is no text.
    """
    if not isinstance(prediction, str):
        raise DataError(f"squad_v2: the prediction is {type(prediction).__name__}, not text: {prediction!r:.80}")
    # An answer of which normalisation leaves nothing ("the") is no answer to the official script either.
    texts = [answers] if isinstance(answers, str) else squad_answers({"answers": answers}, "squad_v2")
    golds = [a for a in texts if _normalised(a)] or [""]
    return {
        "exact": max(float(_normalised(prediction) == _normalised(gold)) for gold in golds),
        "f1": max(_f1(prediction, gold) for gold in golds),
    }


def _f1(prediction: str, gold: str) -> float:
    predicted, wanted = _normalised(prediction).split(), _normalised(gold).split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    same = sum((Counter(predicted) & Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _normalised(text: str) -> str:
    """Lower case without punctuation, articles and spare white space."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())
