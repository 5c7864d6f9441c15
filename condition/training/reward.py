"""A reward model from rankings: which of two answers people like better.

    reward = RewardTrainer().fit(base, rankings, prompt="{question}")        # a RewardModel, which is a Verifier
    reward = RewardTrainer(loss="ranking").fit(base, "ultrafeedback.jsonl", prompt="{instruction}")

Bradley and Terry 1952 over pairs, or Plackett and Luce over whole rankings (`losses.py`). All candidates of a prompt
lie in one tree; each is read at its stop token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.adapters.reward_head import add_head, head_of
from condition.errors import ModelError, SettingsError
from condition.models.local import LocalModel
from condition.models.reward import RewardModel, last_hidden
from condition.protocols import Prompt
from condition.training.against import check_not_negative, check_switch
from condition.training.candidates import PAIRS, Candidates, prepare_rankings
from condition.training.dropout import without_dropout
from condition.training.exploding import of_pairs
from condition.training.fit import Task, check_arguments, fitted
from condition.training.losses import reward_pair_loss, reward_ranking_loss
from condition.training.objective import Measured
from condition.training.reading import pair_places
from condition.training.settings import Settings
from condition.training.watched import compared


@final
class RewardTrainer:
    """Fits a reward head, and an adapter below it, to rankings. The model given stays as it is.

    `loss` is "pairs" or "ranking" (K at once). `centre` keeps rewards around zero; `margins`
    asks a pair's rewards to differ by the difference of its scores, which each ranking has to have then; `pairs` of a
    ranking: "all", or the "best" against the rest.
    """

    def __init__(
        self,
        adapter: KeptAdapter = LoRA(),
        settings: Settings = Settings(),
        *,
        loss: Literal["pairs", "ranking"] = "pairs",
        centre: float = 0.0,
        margins: bool = False,
        pairs: Literal["all", "best"] = "all",
    ) -> None:
        check_arguments(adapter, settings, "RewardTrainer")
        if loss not in ("pairs", "ranking"):
            raise SettingsError(f"loss={loss!r}: give 'pairs' or 'ranking'")
        if pairs not in ("all", "best"):
            raise SettingsError(f"pairs={pairs!r}: give 'all' or 'best'")
        check_not_negative(centre=centre)
        check_switch(margins=margins)
        if loss == "ranking" and (margins or pairs == "best"):
            raise SettingsError("margins and pairs belong to loss='pairs': leave them out with loss='ranking'")
        self.adapter, self.settings = adapter, settings
        self.loss, self.centre, self.margins, self.pairs = loss, centre, margins, pairs

    def fit(
        self,
        model: LocalModel | RewardModel,
        data: object,
        *,
        prompt: Prompt | str,
        validation: object = None,
        watch: Callable[[RewardModel], float] | None = None,
    ) -> RewardModel:
        """A reward model that carries the prompt, its history and its contract.

        `data` and `validation` are Rankings, rows, a `datasets.Dataset` or a path; see `read_rankings`. A reward model
        is trained on. `watch` is asked at each validation, and what comes out is then the best by it (higher is
        better). Raises DataError, SettingsError or ModelError before any work is lost.
        """
        by_pair = self.loss == "pairs"
        measure = RewardObjective(by_pair, self.centre, self.margins)
        task = Task(
            "RewardTrainer",
            partial(
                prepare_rankings,
                choose=PAIRS[self.pairs],
                by_pair=by_pair,
                scored="margins" if self.margins else None,
            ),
            measure,
            {"loss": self.loss, "centre": self.centre, "margins": self.margins, "pairs": self.pairs},
            extend=add_head,
            around=without_dropout,
        )
        base = model.model if isinstance(model, RewardModel) else model
        asked = None if watch is None else lambda model: watch(RewardModel(model))
        return RewardModel(fitted(task, self.adapter, self.settings, base, data, prompt, validation, asked))


@final
@dataclass(frozen=True)
class RewardObjective:
    """The reward loss of rows, summed over their pairs or their rankings."""

    by_pair: bool
    centre: float
    margins: bool

    def __call__(self, network: PreTrainedModel, rows: Sequence[Candidates], shared: bool) -> Measured:
        rewards = rewards_of(network, rows, shared)
        better, worse = pair_places(rows, rewards.device)
        if self.by_pair:
            margins = torch.tensor([pair.margin for row in rows for pair in row.pairs]).to(rewards)
            losses = reward_pair_loss(
                rewards[better], rewards[worse], margins if self.margins else 0.0, centre=self.centre
            )
        else:
            parts = rewards.split([len(row.completions) for row in rows])
            grades = [None if row.grades is None else rewards.new_tensor(row.grades) for row in rows]
            losses = torch.stack(
                [reward_ranking_loss(part, own, centre=self.centre) for part, own in zip(parts, grades, strict=True)]
            )
        watched = _watched(rewards.detach(), better, worse, rows)
        return Measured(losses.sum(), watched, of_pairs(rewards[better], rewards[worse]))


def rewards_of(network: PreTrainedModel, rows: Sequence[Candidates], shared: bool) -> Tensor:
    """Rewards `[completions]` of all rows, in fp32 or wider."""
    head = head_of(network)
    if head is None:
        raise ModelError("the network has no reward head: add one with add_head(network)")
    hidden = last_hidden(network, [sequence for row in rows for sequence in row.sequences], shared)
    with torch.autocast(hidden.device.type, enabled=False):
        rewards: Tensor = head(hidden.to(head.weight.dtype))[:, 0]
    return rewards


def _watched(rewards: Tensor, better: Tensor, worse: Tensor, rows: Sequence[Candidates]) -> Mapping[str, Tensor]:
    lengths = torch.tensor([len(c) for row in rows for c in row.completions], device=rewards.device)
    apart = rewards[better] - rewards[worse]
    return {"margin": apart, **compared(apart, lengths[better], lengths[worse]), "reward": rewards}
