"""Any Hugging Face sequence classifier as a moderator.

toxic = SequenceModerator("org/toxicity-model", refuse=("toxic",), threshold=0.7)
toxic = SequenceModerator(network, tokenizer, refuse=("hate", "offensive"))
toxic.many(texts)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from condition.errors import ModelError, SettingsError
from condition.moderation.texts import checked, judged
from condition.types import Verdict


@final
class SequenceModerator:
    """Refuses a text where the probability of one of the labels `refuse` reaches the threshold.

    `model` is a folder or hub id, a network with its tokenizer, or a transformers pipeline. `refuse` may be left out
    where a network gives each label a probability of its own (`problem_type` multi_label_classification): then it is
    every label. What is longer than the network reads is cut into overlapping pieces, and the worst piece counts.
    Raises ModelError for what is no classifier, and SettingsError for labels that it does not have.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel | Any,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        refuse: Iterable[str] | None = None,
        threshold: float | Mapping[str, float] = 0.5,
        batch_size: int = 32,
        max_chars: int = 100_000,
    ) -> None:
        self.network, self.tokenizer = _parts(model, tokenizer)
        self.network.eval()
        names: Any = self.network.config.id2label
        self.labels: tuple[str, ...] = tuple(names[place] for place in sorted(names))
        self.several = self.network.config.problem_type == "multi_label_classification" or len(self.labels) == 1
        self.refuse = self._refused(refuse)
        limits = threshold if isinstance(threshold, Mapping) else dict.fromkeys(self.refuse, threshold)
        if set(limits) != set(self.refuse) or any(not 0 < limit <= 1 for limit in limits.values()):
            raise SettingsError(f"threshold={threshold}: a number in (0, 1], or one for each of {_names(self.refuse)}")
        self.thresholds = dict(limits)
        self.batch_size = batch_size
        self.max_chars = max_chars

    def __repr__(self) -> str:
        return f"SequenceModerator({self.network.config.name_or_path!r}, refuse={self.refuse})"

    def __call__(self, text: str, /) -> Verdict:
        """One text; `many` is much faster for many."""
        return self.many([text])[0]

    def many(self, texts: Sequence[str]) -> list[Verdict]:
        """A verdict a text, in batches of texts of like length. A text without a visible character passes."""
        return judged(texts, self.max_chars, lambda asked: [self._verdict(row) for row in self.scores(asked)])

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Probabilities, `[texts, labels]`: of each label the largest over a text's pieces."""
        pieces, owners = self._pieces([checked(text) for text in texts])
        found = np.zeros((len(texts), len(self.labels)))
        order = sorted(range(len(pieces)), key=lambda piece: -len(pieces[piece]["input_ids"]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            padded = self.tokenizer.pad([pieces[piece] for piece in batch], return_tensors="pt")
            with torch.inference_mode():
                logits = self.network(**padded.to(self.network.device)).logits.float()
            likely = (logits.sigmoid() if self.several else logits.softmax(-1)).cpu().numpy()
            np.maximum.at(found, [owners[piece] for piece in batch], likely)
        return found

    def _pieces(self, texts: Sequence[str]) -> tuple[list[dict[str, list[int]]], list[int]]:
        """Token ids that the network reads whole, and the text that each belongs to."""
        if not texts:
            return [], []
        room = min(self.tokenizer.model_max_length, _positions(self.network))
        read = self.tokenizer(
            list(texts), truncation=True, max_length=room, stride=min(32, room // 4), return_overflowing_tokens=True
        )
        owners = [int(owner) for owner in read.pop("overflow_to_sample_mapping")]
        wanted = [name for name in self.tokenizer.model_input_names if name in read]
        return [{name: read[name][i] for name in wanted} for i in range(len(owners))], owners

    def _refused(self, refuse: Iterable[str] | None) -> tuple[str, ...]:
        if refuse is None and self.several:
            return self.labels
        given = (refuse,) if isinstance(refuse, str) else tuple(refuse or ())
        if not given or not set(given) <= set(self.labels):
            raise SettingsError(f"refuse={refuse!r}: name the labels that may not pass, of {_names(self.labels)}")
        return given

    def _verdict(self, likely: NDArray[np.float64]) -> Verdict:
        by_label = dict(zip(self.labels, likely, strict=True))
        wrong = [name for name in self.refuse if by_label[name] >= self.thresholds[name]]
        if not wrong:
            return Verdict(True)
        said = (f"{name}: probability {by_label[name]:.2f}, threshold {self.thresholds[name]:.2f}" for name in wrong)
        return Verdict(False, tuple(wrong), ", ".join(said))


def _parts(model: Any, tokenizer: PreTrainedTokenizerBase | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if isinstance(model, str | Path):
        try:
            network = AutoModelForSequenceClassification.from_pretrained(str(model), use_safetensors=True)
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(str(model))
        except Exception as error:  # what reads files and asks the hub may fail in any way
            raise ModelError(
                f"can't load the sequence classifier {model}: {error}. Give a folder or a hub id with safetensors; "
                "pickled weights can run code and are not read"
            ) from error
    else:
        network = model if isinstance(model, PreTrainedModel) else getattr(model, "model", None)
        tokenizer = tokenizer or getattr(model, "tokenizer", None)
    if not isinstance(network, PreTrainedModel) or "SequenceClassification" not in type(network).__name__:
        raise ModelError(
            f"{type(model).__name__} is no sequence classifier: give a folder, a hub id, a network with its tokenizer, "
            "or a transformers pipeline"
        )
    if tokenizer is None:
        raise ModelError("the network's tokenizer is missing: SequenceModerator(network, tokenizer)")
    if not tokenizer.is_fast or tokenizer.pad_token is None:
        raise ModelError(
            "the tokenizer has to be a fast one with a padding token, so that texts can be cut and batched"
        )
    return network, tokenizer


def _positions(network: PreTrainedModel) -> int:
    """Tokens that a network has positions for; RoBERTa counts them from behind its padding."""
    tables = [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in network.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    return min([getattr(network.config, "max_position_embeddings", _USUAL), *tables])


_USUAL = 512
"""Tokens read at once where a network with relative positions and its tokenizer name no limit."""


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
