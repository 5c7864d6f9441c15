"""Trained moderators on real rows, beside the best constant answer: 1,000 text messages and 1,000 tweets.

    python tests/benchmarks/moderation.py

Five folds: a ClassifierModerator learns from four and judges the fifth, so each row is judged once by a moderator that
has not seen it. `calibrated`: a quarter of the training rows chooses the threshold, by the best F1.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from langchain_core.embeddings import Embeddings

from condition.encoder import encoder, vectors
from condition.evaluation.statistics import estimate
from condition.moderation.classifier import ClassifierModerator

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "classification"
FOLDS = 5
SETS = {
    "spam in text messages": ("sms_spam", "text", lambda row: row["label"], "ham"),
    "offence in tweets": ("hate_offensive", "tweet", lambda row: row["class_text"] != "neither" and "offence", False),
}


class Known(Embeddings):
    """Vectors that were made once, for folds that share their texts."""

    def __init__(self, texts: list[str]) -> None:
        began = time.perf_counter()
        self.rows = dict(zip(texts, vectors(encoder(), texts), strict=True))
        self.texts_per_second = len(texts) / (time.perf_counter() - began)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.rows[text].tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def judged(texts: list[str], labels: list[str | None], known: Known, *, calibrated: bool) -> list[bool]:
    """Whether each text passes, by a moderator that was trained on the other folds."""
    passes = [True] * len(texts)
    for fold in range(FOLDS):
        train = [i for i in range(len(texts)) if i % FOLDS != fold]
        test = [i for i in range(len(texts)) if i % FOLDS == fold]
        held = train[: len(train) // 4] if calibrated else []
        fit = train[len(held) :]
        moderator = ClassifierModerator.fit([texts[i] for i in fit], [labels[i] for i in fit], encoder=known)
        if calibrated:
            moderator = moderator.calibrate([texts[i] for i in held], [labels[i] for i in held])
        for i, verdict in zip(test, moderator.many([texts[i] for i in test]), strict=True):
            passes[i] = verdict.allowed
    return passes


def main() -> None:
    for name, (file, column, label_of, fine) in SETS.items():
        lines = (DATA / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        random.Random(0).shuffle(rows)
        texts = [row[column] for row in rows]
        labels = [None if label_of(row) == fine else label_of(row) for row in rows]
        wrong = np.array([label is not None for label in labels])
        constant = np.full(len(rows), wrong.mean() > 0.5) == wrong
        known = Known(texts)
        print(f"\n{name}: {len(rows)} rows, {100 * wrong.mean():.1f} % to be refused; ", end="")
        print(f"{known.texts_per_second:.0f} texts/s encoded")
        print(f"  best constant   accuracy {estimate(constant.astype(float).tolist(), bounds=(0, 1))}")
        for calibrated in (False, True):
            refused = ~np.array(judged(texts, labels, known, calibrated=calibrated))
            right = refused == wrong
            hits = (refused & wrong).sum()
            gain = estimate((right.astype(float) - constant).tolist())
            print(
                f"  {'calibrated' if calibrated else 'threshold 0.5':15} "
                f"accuracy {estimate(right.astype(float).tolist(), bounds=(0, 1))}, gain {gain}, "
                f"recall {100 * hits / wrong.sum():.1f}, precision {100 * hits / refused.sum():.1f}, "
                f"false alarms {100 * (refused & ~wrong).sum() / (~wrong).sum():.1f}"
            )


if __name__ == "__main__":
    main()
