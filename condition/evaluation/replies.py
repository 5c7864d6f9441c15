"""What a judge's model writes to many prompts; in a folder, where one is given, so that nothing is asked twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from condition.errors import ModelError
from condition.evaluation.asking import BATCH
from condition.evaluation.cache import UNKEPT, UNNAMED, Answers, as_json, row_hash
from condition.evaluation.fingerprint import subject_hash
from condition.evaluation.tasks.task import Reply
from condition.models.remote import as_model
from condition.types import Messages, Sampling, Usage

log = logging.getLogger("condition")


@final
class Replies:
    """Asks a model; `cache` and `key` are as in `evaluate`."""

    def __init__(self, model: Any, sampling: Sampling, cache: str | Path | None = None, key: str | None = None) -> None:
        self.model, self.sampling = as_model(model), sampling
        self.cache, self.key = cache, key
        if cache is not None and subject_hash(self.model, sampling, key) is None:
            log.warning(UNNAMED, cache, type(self.model).__name__, "key=...")

    def __call__(self, asked: Sequence[Messages]) -> list[str]:
        """A text for each prompt. Raises ModelError where the model leaves one without."""
        # The model may have been trained since: what it is now decides what may be served.
        name = None if self.cache is None else subject_hash(self.model, self.sampling, self.key)
        if name is None:
            return self._written(asked)
        answers = Answers(self.cache, name)
        rows = [row_hash(as_json(messages)) or f"{UNKEPT}{place}" for place, messages in enumerate(asked)]
        prompts = dict(zip(rows, asked, strict=True))
        new = [row for row in prompts if row not in answers.rows]
        for start in range(0, len(new), BATCH):
            batch, began = new[start : start + BATCH], time.perf_counter()
            texts = self._written([prompts[row] for row in batch])
            told = {row: Reply(text) for row, text in zip(batch, texts, strict=True)}
            answers.add(told, Usage(), time.perf_counter() - began)
        return [answers.rows[row].reply.text for row in rows]

    def _written(self, asked: Sequence[Messages]) -> list[str]:
        if not asked:
            return []
        written = self.model.generate(asked, self.sampling)
        if len(written) != len(asked) or not all(written):
            raise ModelError(
                f"{self.model.name} gave completions for {sum(map(bool, written))} of {len(asked)} prompts"
            )
        return [row[0].text for row in written]
