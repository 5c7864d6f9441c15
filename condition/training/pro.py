"""Preference ranking optimisation: a whole ranking at once, without a reference.

    tuned = PROTrainer(sft_weight=0.05).fit(tuned, rankings, prompt=qa)

Song et al. 2023, arXiv 2306.17492: the best candidate against all others, the second against those behind it, and so
on; and beside it the likelihood of the best. All K candidates of a prompt of P tokens lie in one tree: `P + KC` tokens
are computed instead of `K(P + C)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.models.local import LocalModel
from condition.protocols import Prompt
from condition.training.against import check_not_negative, check_switch
from condition.training.candidates import Candidates, prepare_rankings
from condition.training.exploding import of_tokens
from condition.training.fit import Task, check_arguments, fitted
from condition.training.losses import pro_loss
from condition.training.objective import Measured
from condition.training.reading import Read, first_places, read_completions
from condition.training.settings import Settings
from condition.training.watch import Watch
from condition.training.watched import compared


@final
class PROTrainer:
    """Fits a model to rankings. The model given stays as it is; the result shares its frozen weights.

    `sft_weight` weighs the mean negative log-likelihood of a token of the best candidate; the paper takes
    0.05 (K - 1)^2, which is what None gives. `graded` weighs each contrast by the difference of the rankings' scores,
    which each has to have then.
    """

    def __init__(
        self,
        adapter: KeptAdapter = LoRA(),
        settings: Settings = Settings(),
        *,
        sft_weight: float | None = None,
        graded: bool = False,
    ) -> None:
        check_arguments(adapter, settings, "PROTrainer")
        if sft_weight is not None:
            check_not_negative(sft_weight=sft_weight)
        check_switch(graded=graded)
        self.adapter, self.settings, self.sft_weight, self.graded = adapter, settings, sft_weight, graded

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

        `data` and `validation` are Rankings, rows, a `datasets.Dataset` or a path; see `read_rankings`. Raises
        DataError, SettingsError or ModelError before any work is lost.
        """
        measure = RankingObjective(self.sft_weight, self.graded)
        prepare = partial(prepare_rankings, by_pair=False, scored="graded" if self.graded else None)
        task = Task("PROTrainer", prepare, measure, asdict(measure))
        return fitted(task, self.adapter, self.settings, model, data, prompt, validation, watch)


@final
@dataclass(frozen=True)
class RankingObjective:
    """The PRO loss of rows, summed over their rankings."""

    sft_weight: float | None
    graded: bool

    def __call__(self, network: PreTrainedModel, rows: Sequence[Candidates], shared: bool) -> Measured:
        read = read_completions(network, rows, shared)
        means = read.sums / read.lengths
        total = means.new_zeros(())
        for first, row in zip(first_places(rows), rows, strict=True):
            own = means[first : first + len(row.completions)]
            weight = 0.05 * (len(own) - 1) ** 2 if self.sft_weight is None else self.sft_weight
            total = total + pro_loss(own, _grades(row, own), weighted=self.graded) - weight * own[0]
        firsts = torch.tensor(first_places(rows), device=means.device)
        return Measured(total, _watched(read, means.detach(), rows), of_tokens(network, means[firsts]))


def _grades(row: Candidates, like: Tensor) -> Tensor | None:
    return None if row.grades is None else torch.tensor(row.grades, device=like.device, dtype=torch.float64)


def _watched(read: Read, means: Tensor, rows: Sequence[Candidates]) -> Mapping[str, Tensor]:
    better, worse = read.places(rows)
    apart = means[better] - means[worse]
    firsts = torch.tensor(first_places(rows), device=means.device)
    return {
        "margin": apart,
        **compared(apart, read.lengths[better], read.lengths[worse]),
        "best_logprob": means[firsts],
        "tokens_best": read.lengths[firsts],
        **read.watched,
    }
