"""Words in common with a reference: BLEU, chrF and ROUGE, by the packages that define them.

`bleu` and `chrf` are of one sentence. A corpus' BLEU is no mean of its sentences': `corpus_bleu` of lists, or
`Task(..., pooled={"corpus_bleu": metrics.BLEU})`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from condition.errors import DataError, SettingsError
from condition.evaluation.tasks.task import Pooled, Reply, TaskRow

_ORDER = 4


def _needed(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


_SACREBLEU = _needed("sacrebleu")
_ROUGE = _needed("rouge_score.rouge_scorer")


def bleu(prediction: str, target: str | Sequence[str]) -> dict[str, float]:
    """sacrebleu's sentence BLEU, 0 to 1. Papineni et al. 2002; Post 2018, arXiv 1804.08771."""
    score = _sacrebleu().BLEU(effective_order=True).sentence_score(prediction, _references(target))
    return {"bleu": float(score.score) / 100}


def chrf(prediction: str, target: str | Sequence[str]) -> dict[str, float]:
    """sacrebleu's sentence chrF2, 0 to 1. Popović 2015."""
    return {"chrf": float(_sacrebleu().CHRF().sentence_score(prediction, _references(target)).score) / 100}


def corpus_bleu(predictions: Sequence[str], targets: Sequence[str | Sequence[str]]) -> float:
    """sacrebleu's BLEU of a corpus, 0 to 1. Each prediction may have several references."""
    return float(_sacrebleu().BLEU().corpus_score(list(predictions), _streams(predictions, targets)).score) / 100


def corpus_chrf(predictions: Sequence[str], targets: Sequence[str | Sequence[str]]) -> float:
    """sacrebleu's chrF2 of a corpus, 0 to 1."""
    return float(_sacrebleu().CHRF().corpus_score(list(predictions), _streams(predictions, targets)).score) / 100


def rouge(prediction: str, target: str | Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L F1 with stems, by rouge-score; the best of several references. Lin 2004."""
    if _ROUGE is None:
        raise SettingsError("ROUGE needs rouge-score: pip install 'condition[evaluation]'")
    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = _ROUGE.RougeScorer(kinds, use_stemmer=True)
    found = scorer.score_multi(_references(target), prediction)
    return {kind: float(found[kind].fmeasure) for kind in kinds}


def _counted(row: TaskRow, reply: Reply) -> list[float]:
    """Lengths, matches and totals of a sentence: what BLEU is made of."""
    score = _sacrebleu().BLEU(effective_order=True).sentence_score(reply.text, _references(row.target))
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def _bleu_of(sums: Sequence[float]) -> float:
    numbers = [round(number) for number in sums]
    found = _sacrebleu().BLEU.compute_bleu(
        correct=numbers[2 : 2 + _ORDER], total=numbers[2 + _ORDER :], sys_len=numbers[0], ref_len=numbers[1]
    )
    return float(found.score) / 100


BLEU = Pooled(_counted, _bleu_of)
"""Corpus BLEU as a task's pooled measure: the targets of its rows are texts or lists of them."""


def _sacrebleu() -> Any:
    if _SACREBLEU is None:
        raise SettingsError("BLEU and chrF need sacrebleu: pip install 'condition[evaluation]'")
    return _SACREBLEU


def _references(target: str | Sequence[str]) -> list[str]:
    texts = [target] if isinstance(target, str) else list(target)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"a reference is a text or several, not {target!r:.80}")
    return texts


def _streams(predictions: Sequence[str], targets: Sequence[str | Sequence[str]]) -> list[list[str | None]]:
    """The first references of all sentences, then the second ones: sacrebleu's way."""
    if isinstance(predictions, str) or not predictions or len(predictions) != len(targets):
        raise DataError(f"{len(predictions)} predictions and {len(targets)} targets: two lists of one length, please")
    several = [_references(target) for target in targets]
    return [[r[i] if i < len(r) else None for r in several] for i in range(max(map(len, several)))]
