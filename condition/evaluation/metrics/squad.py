"""Exact match and token F1 of SQuAD v2."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence


def squad_v2(prediction: str, answers: Sequence[str]) -> dict[str, float]:
    """Exact match and token F1, as the official SQuAD v2 script computes them. Rajpurkar et al. 2018, arXiv 1806.03822.

    `answers` are the gold answers; none means that there is no answer, and then only an empty prediction is right.
    The best of several gold answers counts.
    """
    # An answer of which normalisation leaves nothing ("the") is no answer to the official script either.
    golds = [a for a in ([answers] if isinstance(answers, str) else answers) if _normalised(a)] or [""]
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
