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
from typing import Literal, final

from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.errors import SettingsError
from condition.models.local import LocalModel
from condition.protocols import Prompt
from condition.training.against import Against, check_not_negative, check_positive, check_switch
from condition.training.candidates import PAIRS, Candidates, prepare_rankings
from condition.training.dropout import without_dropout
from condition.training.exploding import of_tokens
from condition.training.fit import Task, check_arguments, fitted
from condition.training.losses import PairLoss, pair_loss
from condition.training.objective import Measured
from condition.training.reading import Read, read_completions
from condition.training.settings import Settings
from condition.training.watch import Watch
from condition.training.watched import compared

KINDS = ("sigmoid", "ipo", "hinge", "robust", "conservative")
DOUBTING = ("robust", "conservative")
"""Those that take a share of the labels to be wrong."""
SMOOTHING = 0.1


@final
class DPOTrainer:
    """Fits a model to rankings. The model given stays as it is, and is the reference unless another is given.

    `loss`: see `losses.pair_loss`; `smoothing` is the share of labels that robust and conservative take to be wrong,
    0.1 where it is not given; `margin` is what `beta` times the difference has to exceed. `normalised` divides
    log-ratios by the tokens of a completion, as ipo does in any case; `reference_free` takes no reference.
    `sft_weight` adds the mean negative log-likelihood of a token of the better candidate of each pair
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
        smoothing: float | None = None,
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
        check_not_negative(sft_weight=sft_weight, margin=margin)
        check_switch(normalised=normalised, reference_free=reference_free)
        if smoothing is not None:
            check_not_negative(smoothing=smoothing)
            if smoothing >= 0.5:
                raise SettingsError(f"smoothing={smoothing!r}: give a share of wrong labels from 0 to below 0.5")
            if loss not in DOUBTING:
                raise SettingsError(
                    f"smoothing belongs to loss='robust' and 'conservative', and would do nothing here: "
                    f"leave it out with loss={loss!r}"
                )
        if margin and loss == "ipo":
            raise SettingsError("loss='ipo' has its own margin, 1 / (2 beta): leave `margin` out")
        self.against = Against(reference, stop_drift)
        if reference_free and reference is not None:
            raise SettingsError("reference_free=True takes no reference: leave one of the two out")
        if reference_free and stop_drift is not None:
            raise SettingsError("stop_drift is a distance from the reference, and reference_free=True has none")
        self.beta, self.loss, self.adapter, self.settings = beta, loss, adapter, settings
        self.smoothing, self.margin, self.normalised = SMOOTHING if smoothing is None else smoothing, margin, normalised
        self.reference_free, self.sft_weight, self.pairs = reference_free, sft_weight, pairs

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
        self.against.check(model)
        task = Task(
            "DPOTrainer",
            partial(prepare_rankings, choose=PAIRS[self.pairs]),
            measure,
            {
                **asdict(measure),
                **self.against.options,
                "reference_free": self.reference_free,
                "pairs": self.pairs,
            },
            around=without_dropout,
            callbacks=self.against.callbacks,
        )
        if not self.reference_free:
            task = replace(task, complete=self.against.complete)
        return fitted(task, self.adapter, self.settings, model, data, prompt, validation, watch)


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
        surprise = of_tokens(network, (read.sums / lengths)[better])
        return Measured(losses.sum(), self._watched(read, better, worse, difference.detach()), surprise)

    def _watched(self, read: Read, better: Tensor, worse: Tensor, difference: Tensor) -> Mapping[str, Tensor]:
        means = ((read.sums - read.references) / read.lengths).detach()
        name = "drift" if read.compared else "logprob"  # without a reference nothing says how far it went
        return {
            "margin": self.beta * difference,
            f"{name}_better": means[better],
            f"{name}_worse": means[worse],
            **compared(difference, read.lengths[better], read.lengths[worse]),
            "tokens_better": read.lengths[better],
            "tokens_worse": read.lengths[worse],
            **read.watched,
        }
