"""Metrics of one prediction against its target; each gives named values, most of them from 0 to 1.

    metrics.squad_v2("in Rouen", ["Rouen"])              # {"exact": 0.0, "f1": 0.67}
    metrics.number("so 1,200 apples", "#### 1200")       # {"strict": 0.0, "flexible": 1.0, "number": 1.0}
    metrics.expression(r"\\boxed{\\frac{2}{4}}", "0.5")    # {"equal": 1.0}
    metrics.pass_at_k(n=20, correct=3, k=10)             # 0.895

Those of other packages are loaded on first use: BLEU and chrF need sacrebleu, ROUGE needs rouge-score.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from condition.evaluation.metrics.choices import Choices, by_chars, by_tokens, calibrated, likeliest, pmi, read_choice
from condition.evaluation.metrics.code import pass_at_k
from condition.evaluation.metrics.formats import is_json, length, matches
from condition.evaluation.metrics.likelihood import PERPLEXITIES, perplexity
from condition.evaluation.metrics.numbers import number
from condition.evaluation.metrics.refusals import refusal
from condition.evaluation.metrics.squad import squad_v2
from condition.evaluation.metrics.texts import accuracy, exact_match, win_rate

if TYPE_CHECKING:
    from condition.evaluation.metrics.expressions import expression as expression
    from condition.evaluation.metrics.overlap import BLEU as BLEU
    from condition.evaluation.metrics.overlap import bleu as bleu
    from condition.evaluation.metrics.overlap import chrf as chrf
    from condition.evaluation.metrics.overlap import corpus_bleu as corpus_bleu
    from condition.evaluation.metrics.overlap import corpus_chrf as corpus_chrf
    from condition.evaluation.metrics.overlap import rouge as rouge

_LATER = {
    "BLEU": "overlap",
    "bleu": "overlap",
    "chrf": "overlap",
    "corpus_bleu": "overlap",
    "corpus_chrf": "overlap",
    "expression": "expressions",
    "rouge": "overlap",
}

__all__ = [
    "BLEU",
    "PERPLEXITIES",
    "Choices",
    "accuracy",
    "bleu",
    "by_chars",
    "by_tokens",
    "calibrated",
    "chrf",
    "corpus_bleu",
    "corpus_chrf",
    "exact_match",
    "expression",
    "is_json",
    "length",
    "likeliest",
    "matches",
    "number",
    "pass_at_k",
    "perplexity",
    "pmi",
    "read_choice",
    "refusal",
    "rouge",
    "squad_v2",
    "win_rate",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"condition.evaluation.metrics.{_LATER[name]}"), name)
    raise AttributeError(f"module 'condition.evaluation.metrics' has no attribute {name!r}")
