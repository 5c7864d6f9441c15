"""Direct preference optimisation: make the better of two candidates likelier than the worse one, against a reference.

    tuned = DPOTrainer(beta=0.1).fit(tuned, rankings, prompt=qa)
    tuned = DPOTrainer(loss="robust", smoothing=0.1, pairs="best").fit(tuned, "ultrafeedback.jsonl", prompt=qa)
    tuned = DPOTrainer(reference_free=True, normalised=True, beta=2.0, margin=1.0).fit(...)      # SimPO

Rafailov et al. 2023, arXiv 2305.18290. All candidates of a prompt lie in one tree: the prompt is computed once. The
reference is the model given to `fit`, read once before the training (`references.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.errors import SettingsError
from condition.models.local import LocalModel
from condition.protocols import Prompt
from condition.training.candidates import PAIRS, Candidates, prepare_rankings
from condition.training.checkpoints import digest
from condition.training.dropout import without_dropout
from condition.training.fit import Task, Watch, check_arguments, fitted
from condition.training.losses import PairLoss, pair_loss
from condition.training.objective import Measured
from condition.training.reading import read_completions
from condition.training.references import check_reference, with_references
from condition.training.rows import Prepared
from condition.training.settings import Settings
from condition.training.watched import DriftStop

KINDS = ("sigmoid", "ipo", "hinge", "robust", "conservative")


@final
class DPOTrainer:
    """Fits a model to rankings. The model given stays as it is, and is the reference unless another is given.

    `loss`: see `losses.pair_loss`; `smoothing` is the share of labels that robust and conservative take to be wrong.
    `normalised` divides log-ratios by the tokens of a completion, as ipo does in any case; `reference_free` takes no
    reference. `sft_weight` adds the mean negative log-likelihood of a token of the better candidate of each pair
    (Pang et al. 2024, arXiv 2404.19733). `pairs` of a ranking: "all", or the "best" against the rest.
    `stop_drift` ends the training once a token of the better candidates has lost so much log-probability (nats, mean)
    against the reference.
    """

    def __init__(
        self,
        beta: float = 0.1,
        loss: PairLoss = "sigmoid",
        adapter: KeptAdapter = LoRA(),
        settings: Settings = Settings(),
        *,
        smoothing: float = 0.1,
        margin: float = 0.0,
        normalised: bool = False,
        reference_free: bool = False,
        sft_weight: float = 0.0,
        pairs: Literal["all", "best"] = "all",
        stop_drift: float | None = None,
        reference: LocalModel | None = None,
    ) -> None:
        check_arguments(adapter, settings, "DPOTrainer")
        check_positive(beta=beta)
        if loss not in KINDS:
            raise SettingsError(f"loss={loss!r}: give one of {', '.join(KINDS)}")
        if pairs not in ("all", "best"):
            raise SettingsError(f"pairs={pairs!r}: give 'all' or 'best'")
        if not 0 <= smoothing < 0.5:
            raise SettingsError(f"smoothing={smoothing!r}: give a share of wrong labels from 0 to below 0.5")
        if sft_weight < 0 or margin < 0:
            raise SettingsError("sft_weight and margin are 0 or more")
        if stop_drift is not None:
            check_positive(stop_drift=stop_drift)
        if reference is not None and not isinstance(reference, LocalModel):
            raise SettingsError(f"reference={reference!r:.60} is no loaded model: load it first, or leave it out")
        if reference_free and reference is not None:
            raise SettingsError("reference_free=True takes no reference: leave one of the two out")
        self.beta, self.loss, self.adapter, self.settings = beta, loss, adapter, settings
        self.smoothing, self.margin, self.normalised = smoothing, margin, normalised
        self.reference_free, self.sft_weight, self.pairs = reference_free, sft_weight, pairs
        self.stop_drift, self.reference = stop_drift, reference

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

        `data` and `validation` are Rankings, rows, a `datasets.Dataset` or a path; see `read_rankings`. A model that
        is tuned already is tuned on, from itself as the reference. Raises DataError, SettingsError, ContractError or
        ModelError before any work is lost.
        """
        measure = PairObjective(
            self.loss, self.beta, self.smoothing, self.margin, self.normalised or self.loss == "ipo", self.sft_weight
        )
        if self.reference is not None and isinstance(model, LocalModel):
            check_reference(model, self.reference)
        task = Task(
            "DPOTrainer",
            partial(prepare_rankings, choose=PAIRS[self.pairs]),
            measure,
            {
                **asdict(measure),
                "reference_free": self.reference_free,
                "pairs": self.pairs,
                "stop_drift": self.stop_drift,
                "reference": None if self.reference is None else digest(self.reference.network),
            },
            complete=self._complete,
            around=without_dropout,
            callbacks=() if self.stop_drift is None else (DriftStop(self.stop_drift),),
        )
        return fitted(task, self.adapter, self.settings, model, data, prompt, validation, watch)

    def _complete(self, model: LocalModel, rows: Prepared, dtype: torch.dtype) -> Prepared:
        return rows if self.reference_free else referenced(rows, self.reference or model, dtype)


def check_positive(**given: float) -> None:
    """Raises SettingsError for what is no number above 0."""
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise SettingsError(f"{name}={value!r}: give a number above 0")


def referenced(rows: Prepared, reference: LocalModel, dtype: torch.dtype) -> Prepared:
    """Rows of Candidates with the reference's log-probabilities."""
    found: Any = rows.rows
    return replace(rows, rows=with_references(found, reference, dtype))


@final
@dataclass(frozen=True)
class PairObjective:
    """The DPO loss of rows, summed over their pairs."""

    loss: PairLoss
    beta: float
    smoothing: float
    margin: float
    normalised: bool
    sft_weight: float

    def __call__(self, network: PreTrainedModel, rows: Sequence[Candidates], shared: bool) -> Measured:
        read = read_completions(network, rows, shared)
        better, worse = read.places(rows)
        ratios, lengths = read.sums - read.references, read.lengths
        scores = ratios / lengths if self.normalised else ratios
        difference = scores[better] - scores[worse]
        losses = pair_loss(self.loss, difference, beta=self.beta, smoothing=self.smoothing, margin=self.margin)
        if self.sft_weight:
            losses = losses - self.sft_weight * (read.sums / lengths)[better]
        return Measured(losses.sum(), self._watched(read, better, worse, difference.detach()))

    def _watched(self, read: Any, better: Tensor, worse: Tensor, difference: Tensor) -> Mapping[str, Tensor]:
        drift = ((read.sums - read.references) / read.lengths).detach()
        longer = (read.lengths[better] - read.lengths[worse]).sign()
        told = longer != 0
        return {
            "margin": self.beta * difference,
            "accuracy": _right(difference),
            "drift_better": drift[better],
            "drift_worse": drift[worse],
            "prefers_longer": (difference.sign() == longer)[told].double(),
            "longer_is_better": (longer > 0)[told].double(),
            "tokens_better": read.lengths[better],
            "tokens_worse": read.lengths[worse],
            **read.watched,
        }


def _right(difference: Tensor) -> Tensor:
    """1 where the better one is preferred, half where neither is: at the start there is nothing but rounding."""
    return torch.where(difference.abs() < 1e-4, 0.5, (difference > 0).double())
