"""A reward model: how good each answer to a question is, as people said of others.

    reward = RewardTrainer().fit(base, rankings, prompt="{question}")
    reward("Why is the sky blue?", ["It scatters light.", "It is painted."])     # [0.8, -1.2]; one pass for both
    best = BestOf(chain, reward, samples=8)
    reward.save_pretrained("liked");  reward = RewardModel.load("liked")

It is a `Verifier`. All answers to one question lie in one tree, so that the question is computed once, and kept where
they are more than go through the network at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.reward_head import head_of
from condition.errors import ModelError
from condition.models.contract import Contract
from condition.models.history import History
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.packs import PACK_TOKENS, passes
from condition.models.render import TURNS
from condition.prefix_sharing.layout import common_prefix, pack
from condition.prefix_sharing.logprobs import packed_hidden
from condition.prefix_sharing.past import Past
from condition.prefix_sharing.probe import shareable
from condition.prompts.fill import fill
from condition.prompts.history import History as PlaceForHistory
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages


@final
class RewardModel:
    """Numbers for answers, higher for better; only their differences mean something.

    Made by `RewardTrainer` and by `RewardModel.load`. Raises ModelError for a model without a reward head.
    """

    def __init__(self, model: LocalModel) -> None:
        if not isinstance(model, LocalModel) or head_of(model.network) is None:
            raise ModelError(
                f"{model!r:.80} has no reward head: make one with RewardTrainer, or RewardModel.load(folder)"
            )
        self.model = model

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> RewardModel:
        """What `save_pretrained` wrote; options are those of `condition.load`. Its contract is checked.

        Raises as `condition.load` does.
        """
        return cls(load(folder, **options))

    def __call__(self, question: str, candidates: Sequence[str], /) -> list[float]:
        """A reward for each candidate; the same text has the same. Raises as `rewards` does, and ModelError for a
        prompt with several inputs: use `rewards` there."""
        return self.rewards([self._asked(question)], [candidates])[0]

    def rewards(self, prompts: Sequence[Messages], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """A reward for each candidate behind each prompt.

        Raises ModelError for one that does not fit the context, and for candidates that are no list of texts.
        """
        if len(prompts) != len(candidates):
            raise ModelError(f"{len(prompts)} prompts and {len(candidates)} lists of candidates; one list a prompt")
        texts = [_texts(own) for own in candidates]
        sequences = [
            self._rendered(messages, text) for messages, own in zip(prompts, texts, strict=True) for text in own
        ]
        different = list(dict.fromkeys(sequences))  # read twice, the same answer would beat itself by rounding
        head, network = head_of(self.model.network), self.model.network
        assert head is not None
        found: dict[tuple[int, ...], float] = {}
        with torch.inference_mode(), TURNS:
            shared = shareable(network)
            for places, past in passes(network, different, PACK_TOKENS):
                read = [different[place] for place in places]
                hidden = last_hidden(network, read, shared, past)
                found.update(zip(read, head(hidden.to(head.weight.dtype))[:, 0].tolist(), strict=True))
        rest = iter(sequences)
        return [[found[next(rest)] for _ in own] for own in texts]

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def prompt(self) -> Prompt | None:
        return self.model.prompt

    @property
    def history(self) -> History:
        return self.model.history

    @property
    def contract(self) -> Contract | None:
        return self.model.contract

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, head, tokenizer and contract, all or nothing. Raises ModelError where that fails."""
        self.model.save_pretrained(folder)

    def push_to_hub(self, repo: str, *, private: bool = True) -> str:
        """Save and upload to a hub repository; gives its address."""
        return self.model.push_to_hub(repo, private=private)

    def __repr__(self) -> str:
        return f"RewardModel({self.name!r})"

    def _asked(self, question: str) -> Messages:
        prompt = self.model.prompt
        if prompt is None:
            return (Message("user", question),)
        if isinstance(prompt, PlaceForHistory):
            return prompt.format(**{prompt.name: [("user", question)]})
        if len(prompt.variables) != 1:
            raise ModelError(
                f"the reward model's prompt has the variables {sorted(prompt.variables)}, so a question alone does not "
                "fill it: reward.rewards([prompt.format(...)], [candidates])"
            )
        return fill(as_prompt(prompt), dict.fromkeys(prompt.variables, question))

    def _rendered(self, messages: Messages, text: str) -> tuple[int, ...]:
        ids = self.model.render(messages, text).ids
        if len(ids) > self.model.context:
            raise ModelError(
                f"{text!r:.40} and its prompt make {len(ids):,} tokens, the context has {self.model.context:,}: "
                "shorten one of them"
            )
        return ids


def _texts(candidates: object) -> list[str]:
    """Raises ModelError for what is no list of texts: a text alone would be read letter by letter."""
    if isinstance(candidates, Iterable) and not isinstance(candidates, str | bytes):
        texts = [*candidates]
        if all(isinstance(text, str) for text in texts):
            return texts
    raise ModelError(f"candidates={candidates!r:.80}: give a list of texts, also for one, such as ['blue']")


def last_hidden(
    network: PreTrainedModel, sequences: Sequence[Sequence[int]], shared: bool, kept: Past | None = None
) -> Tensor:
    """Hidden state of the last token of each sequence `[sequences, width]`; common beginnings are computed once.

    No gradient flows behind a beginning that is `kept`; without `shared` it is not used.
    """
    device = network.device
    if shared:
        known = min(min(len(s) - 1, common_prefix(kept.ids, s)) for s in sequences) if kept else 0
        # The last token of a packed sequence is only predicted: one more, whichever it is.
        packed = pack([(*s[known:], 0) for s in sequences], [len(s) - known for s in sequences])
        return packed_hidden(network, packed, kept.first(known) if kept and known else None)[
            packed.predictors.to(device)
        ]
    longest = max(map(len, sequences))
    ids, mask = (torch.zeros(len(sequences), longest, dtype=torch.long) for _ in range(2))
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)], mask[i, : len(sequence)] = torch.tensor(sequence), 1
    output = network.base_model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    hidden: Tensor = output.last_hidden_state
    return hidden[torch.arange(len(sequences)), torch.tensor([len(s) - 1 for s in sequences])]
