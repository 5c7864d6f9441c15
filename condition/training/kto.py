"""Learning from single thumbs: no pairs are needed, only completions that were liked and some that were not.

    tuned = KTOTrainer(beta=0.1).fit(tuned, "thumbs.jsonl", prompt=qa)

Ethayarajh et al. 2024, arXiv 2402.01306. How far the model has moved from the reference is estimated at completions
that answer another prompt: each row stands with the completion of the next row behind its own prompt, in one tree.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.data.preferences import read_opinions
from condition.errors import DataError
from condition.models.local import LocalModel
from condition.protocols import Prompt
from condition.training.against import Against, check_positive
from condition.training.candidates import Candidates, log_left_out, render_within
from condition.training.dropout import without_dropout
from condition.training.exploding import of_tokens
from condition.training.fit import Task, check_arguments, fitted
from condition.training.limits import limit_of
from condition.training.losses import kto_loss
from condition.training.objective import Measured
from condition.training.processes import number_of_processes, summed
from condition.training.reading import Read, read_completions
from condition.training.rows import Origin, Prepared, origin_of, row_name
from condition.training.settings import Settings
from condition.training.watch import Watch
from condition.types import Feedback, Ranking, Rendered

log = logging.getLogger("condition")

UP = 1.0
"""Grade of a row whose thumb is up; 0 is down."""


@final
class KTOTrainer:
    """Fits a model to thumbs. The model given stays as it is, and is the reference unless another is given.

    `good_weight` and `bad_weight` make up for more thumbs of one kind: the paper advises
    `good_weight * ups` between 1 and 4/3 of `bad_weight * downs`.
    """

    def __init__(
        self,
        beta: float = 0.1,
        adapter: KeptAdapter = LoRA(),
        settings: Settings = Settings(),
        *,
        good_weight: float = 1.0,
        bad_weight: float = 1.0,
        stop_drift: float | None = None,
        reference: LocalModel | None = None,
    ) -> None:
        check_arguments(adapter, settings, "KTOTrainer")
        check_positive(beta=beta, good_weight=good_weight, bad_weight=bad_weight)
        self.beta, self.adapter, self.settings = beta, adapter, settings
        self.good_weight, self.bad_weight = good_weight, bad_weight
        self.against = Against(reference, stop_drift)

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

        `data` and `validation` are Feedback whose `said` is True or False, Rankings, whose best candidates count as
        liked and all that are worse as not, both mixed, rows, a `datasets.Dataset` or a path. Raises DataError,
        SettingsError, ContractError or ModelError before any work is lost.
        """
        self.against.check(model)
        measure = ThumbObjective(self.beta, self.good_weight, self.bad_weight)
        task = Task(
            "KTOTrainer",
            prepare_thumbs,
            measure,
            {
                "beta": self.beta,
                "good_weight": self.good_weight,
                "bad_weight": self.bad_weight,
                **self.against.options,
            },
            complete=self.against.complete,
            before_step=measure.before_step,
            whole=measure.whole,
            around=without_dropout,
            callbacks=self.against.callbacks,
        )
        return fitted(task, self.adapter, self.settings, model, data, prompt, validation, watch)


class _Thumb(NamedTuple):
    """A completion that was liked or not, rendered."""

    rendered: Rendered
    good: bool
    origin: Origin
    """Its own: the row that it becomes has the next one's completion too."""


def prepare_thumbs(
    model: LocalModel, data: object, prompt: Prompt, settings: Settings, what: str, taken: int = 0
) -> Prepared:
    """A row for each thumb: its completion, and the next row's behind the same prompt.

    Rankings that are all tied give none, and are counted. Raises DataError for what is no thumb, for thumbs of one row
    only, and as `prepare` does.
    """
    found: list[_Thumb] = []
    gone: Counter[str] = Counter()
    trimmed = 0
    for number, opinion in enumerate(read_opinions(data)):
        name = row_name(number, opinion.id)
        where = f"{what} {name}"
        thumbs = _thumbs(opinion, where)
        gone["all candidates tied"] += not thumbs
        for thumb in thumbs:
            rendered, cut = render_within(model, prompt, thumb.inputs, [thumb.completion], settings, where, taken)
            if rendered is None:
                gone["too many tokens"] += 1
                continue
            trimmed += cut
            said = bool(thumb.said)
            origin = origin_of(name, prompt, thumb.inputs, [thumb.completion, str(said)])
            found.append(_Thumb(rendered[0], said, origin))
    log_left_out(+gone, what)
    if len(found) < 2:
        raise DataError(f"{len(found)} {what} rows: KTO needs at least two, to compare with each other's completions")
    origins = [thumb.origin for thumb in found]
    return Prepared(
        list(_beside_each_other(found, limit_of(model, settings, taken))), sum(gone.values()), trimmed, origins
    )


def _thumbs(opinion: Ranking | Feedback, where: str) -> list[Feedback]:
    """One for each candidate of a ranking, none where all are tied."""
    if isinstance(opinion, Ranking):
        worse = {j for _, j in opinion.pairs}
        liked = [place not in worse for place in range(len(opinion.candidates))]
        told = zip(opinion.candidates, liked, strict=True)
        return [Feedback(opinion.inputs, text, good) for text, good in told] if worse else []
    if opinion.said not in (0, 1):  # True and False are these numbers, and files write them so
        raise DataError(
            f"{where}: {opinion.said!r:.60} is no thumb: KTO takes True and False, or 1 and 0; "
            "make grades thumbs by a limit of yours, or give words to HindsightTrainer"
        )
    return [opinion]


def _beside_each_other(thumbs: Sequence[_Thumb], limit: int) -> Iterator[Candidates]:
    """Each row with the completion of the next one that answers another prompt, cut where it would be too long."""
    for thumb, place in zip(thumbs, _next_of_another_prompt(thumbs), strict=True):
        prompt, other = thumb.rendered.prompt_ids, thumbs[place].rendered
        completions = (thumb.rendered.ids[len(prompt) :], other.ids[len(other.prompt_ids) :][: limit - len(prompt)])
        yield Candidates(prompt, completions, grades=(UP if thumb.good else 0.0, 0.0))


def _next_of_another_prompt(thumbs: Sequence[_Thumb]) -> list[int]:
    """For each row the place of the next one with another prompt, the first ones being next to the last.

    Where all have the same prompt, of the row behind it.
    """
    prompts = [thumb.rendered.prompt_ids for thumb in thumbs]
    nowhere = 2 * len(prompts)
    following = [nowhere] * nowhere  # of all rows, written down twice
    for place in reversed(range(nowhere - 1)):
        is_alike = prompts[place % len(prompts)] == prompts[(place + 1) % len(prompts)]
        following[place] = following[place + 1] if is_alike else place + 1
    return [
        (place + 1 if other == nowhere else other) % len(prompts)
        for place, other in enumerate(following[: len(prompts)])
    ]


@final
class ThumbObjective:
    """The KTO loss of rows, summed over their thumbs.

    The divergence is a mean over the whole step: where a step has several batches, or several processes share it, it
    is measured before the first. In validation it is a mean over all rows, whatever the batches.
    """

    def __init__(self, beta: float, good_weight: float, bad_weight: float) -> None:
        self.beta, self.good_weight, self.bad_weight = beta, good_weight, bad_weight
        self._of_step: Tensor | None = None

    @torch.no_grad()
    def before_step(self, network: PreTrainedModel, batches: Sequence[Sequence[Candidates]], shared: bool) -> None:
        """Measure the divergence over all batches of a step, in all processes."""
        self._of_step = None
        if len(batches) > 1 or number_of_processes() > 1:
            was_training = network.training
            network.eval()
            apart = torch.cat([self._apart(read_completions(network, rows, shared)) for rows in batches])
            network.train(was_training)
            total, count = summed(torch.stack([apart.sum(), apart.new_tensor(float(len(apart)))]))
            self._of_step = (total / count).clamp(min=0)

    def __call__(self, network: PreTrainedModel, rows: Sequence[Candidates], shared: bool) -> Measured:
        read = read_completions(network, rows, shared)
        ratios = (read.sums - read.references)[::2]
        ahead = self._of_step if network.training else None
        kl = self._apart(read).mean().clamp(min=0) if ahead is None else ahead
        good = torch.tensor([row.grades is not None and row.grades[0] == UP for row in rows], device=ratios.device)
        losses = kto_loss(ratios, good, kl, beta=self.beta, good_weight=self.good_weight, bad_weight=self.bad_weight)
        surprise = of_tokens(network, (read.sums / read.lengths)[::2][good])
        parts = () if network.training else torch.stack([ratios, self._apart(read), good.to(ratios)], 1).tolist()
        return Measured(losses.sum(), self._watched(read, ratios.detach(), good, kl), surprise, parts)

    def whole(self, parts: Sequence[Sequence[float]]) -> dict[str, float]:
        """Mean loss of all validation rows and their divergence, from what was measured of each."""
        ratios, apart, good = torch.tensor(parts, dtype=torch.float64).T
        kl = apart.mean().clamp(min=0)
        losses = kto_loss(
            ratios, good > 0, kl, beta=self.beta, good_weight=self.good_weight, bad_weight=self.bad_weight
        )
        return {"loss": float(losses.mean()), "divergence": float(kl)}

    def _apart(self, read: Read) -> Tensor:
        """`[rows]`: log-ratios of completions that answer another prompt."""
        return (read.sums - read.references)[1::2].detach()

    def _watched(self, read: Read, ratios: Tensor, good: Tensor, kl: Tensor) -> Mapping[str, Any]:
        drift = ratios / read.lengths[::2]
        return {
            **read.watched,
            "divergence": kl.expand(len(ratios)),
            "reward_good": self.beta * ratios[good],
            "reward_bad": self.beta * ratios[~good],
            "drift_better": drift[good],
            "drift_worse": drift[~good],
            "tokens": read.lengths[::2],
        }
