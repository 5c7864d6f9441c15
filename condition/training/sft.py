"""Supervised fine-tuning: teach a model to say the target behind the prompt, and nothing else.

The loss is the negative log-likelihood of the target and its stop token; the prompt is never trained on.

    tuned = SFTTrainer(adapter=LoRA(rank=16), settings=Settings(epochs=2)).fit(base, rows, prompt="{question}")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.models.local import LocalModel
from condition.prefix_sharing.logprobs import logprobs
from condition.protocols import Prompt
from condition.training.exploding import of_tokens
from condition.training.fit import Task, check_arguments, fitted
from condition.training.losses import sft_loss
from condition.training.objective import Measured
from condition.training.rows import Row, prepare
from condition.training.settings import Settings
from condition.training.watch import Watch


@final
class SFTTrainer:
    """Fits a model to examples. The model given stays as it is; the result shares its frozen weights."""

    def __init__(self, adapter: KeptAdapter = LoRA(), settings: Settings = Settings()) -> None:
        check_arguments(adapter, settings, "SFTTrainer")
        self.adapter = adapter
        self.settings = settings

    def fit(
        self,
        model: LocalModel,
        data: object,
        *,
        prompt: Prompt | str,
        validation: object = None,
        watch: Watch | None = None,
    ) -> LocalModel:
        """A tuned model that carries the prompt, its history and its contract.

        `data` and `validation` are Examples, rows, a `datasets.Dataset` or a path. A model that is tuned already is
        tuned on. `watch` measures a model, higher for better, at each validation, and then says which was the best:
        `cd.watcher(task)`, or any function. Raises DataError, SettingsError or ModelError before any work is lost.
        """
        task = Task("SFTTrainer", prepare, likelihood)
        return fitted(task, self.adapter, self.settings, model, data, prompt, validation, watch)


def likelihood(network: PreTrainedModel, rows: Sequence[Row], shared: bool) -> Measured:
    """The SFT loss of rows."""
    values = logprobs(network, [row.ids for row in rows], [row.start for row in rows], shared=shared)
    weighted = [value if row.weight == 1 else value * row.weight for row, value in zip(rows, values, strict=True)]
    learned = [value for row, value in zip(rows, values, strict=True) if row.weight > 0]
    surprise = of_tokens(network, torch.cat(learned)) if learned else None
    return Measured(sft_loss(torch.cat(weighted)), surprise=surprise)
