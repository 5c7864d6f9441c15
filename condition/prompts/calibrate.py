"""Labels by likelihood, without the prompt's own leaning to some of them.

    classifier = calibrate(model, FewShotPrompt(prompt, examples), ["positive", "negative"])
    classifier.bias                              # what the prompt says of "N/A": before, and after on words held out
    classifier.probabilities(rows)               # [{"positive": 0.9, "negative": 0.1}, …], all rows in one call
    classifier.batch(rows)                       # Answers, as from any chain

Contextual calibration: what a prompt answers to words without content is its bias, by the majority of its examples'
labels, by the last of them, and by how common a label's words are; probabilities are divided by it (Zhao et al. 2021,
arXiv 2102.09690). Where examples are chosen for each item, the bias is measured for each item's own prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from condition.errors import DataError, PromptError
from condition.prompts.compose import chooses, fixed
from condition.prompts.few_shot import following
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.protocols import Prompt, Scorer
from condition.types import Answer, Completion, Example, Messages, Value

CONTENT_FREE = ("N/A", "[MASK]", "")
"""As in the paper; their probabilities are averaged."""

Row = Mapping[str, Any] | Example
LogProbs = NDArray[np.float64]


class Bias(Value):
    """The mean probability of each label for words without content, before and after calibration.

    After is measured on each of the words with the others' calibration, so it is not even by construction.
    """

    before: dict[str, float]
    after: dict[str, float]
    leaning_before: float
    """How far from even the probabilities are, the mean over the words: 0 to almost 1 (total variation)."""
    leaning_after: float

    def __str__(self) -> str:
        width = max(map(len, (*self.before, "leaning")))
        lines = [f"{label:{width}}  {self.before[label]:.3f} -> {self.after[label]:.3f}" for label in self.before]
        return "\n".join([*lines, f"{'leaning':{width}}  {self.leaning_before:.3f} -> {self.leaning_after:.3f}"])


@final
class LabelClassifier:
    """A prompt and a scorer as a classifier: a Chain whose answers are labels. `calibrate` makes a calibrated one.

    `labels` are the words that may follow the prompt; a mapping gives each label its words.
    """

    def __init__(
        self,
        scorer: Scorer,
        prompt: Any,
        labels: Sequence[str] | Mapping[str, str],
        *,
        content_free: Sequence[str] = (),
    ) -> None:
        self.scorer = scorer
        self.prompt = as_prompt(prompt)
        if not isinstance(labels, Iterable):
            raise PromptError(f"labels={labels!r:.80}: give two or more texts, or a mapping of labels to their words")
        self.labels: tuple[str, ...] = tuple(labels)
        self.words: tuple[str, ...] = tuple(labels.values()) if isinstance(labels, Mapping) else self.labels
        self.content_free = tuple(content_free)
        self.bias: Bias | None = None
        self._offset: LogProbs | None = None
        if isinstance(labels, str) or len(self.labels) < 2 or len(set(self.words)) < len(self.words):
            raise PromptError(f"labels={labels!r:.80}: give two or more, each with words of its own")
        if other := [one for one in (*self.labels, *self.words) if not isinstance(one, str)]:
            raise PromptError(f"a label is a text, not {type(other[0]).__name__}: write '{other[0]}'")
        if not all(self.words):
            raise PromptError("a label without words is always as likely as not: give it a text")
        if not callable(getattr(scorer, "score", None)):
            raise PromptError(
                f"{type(scorer).__name__} can't say how likely a label is: give a model with `score`, such as cd.load()"
            )
        if self.content_free and not self._chooses:
            self._measure()

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    @property
    def uncalibrated(self) -> LabelClassifier:
        """The same without calibration."""
        return LabelClassifier(self.scorer, self.prompt, dict(zip(self.labels, self.words, strict=True)))

    def probabilities(self, rows: Sequence[Row]) -> list[dict[str, float]]:
        """Of each label for each row, in one call of the scorer; those of a row sum to 1."""
        return [dict(zip(self.labels, row.tolist(), strict=True)) for row in np.exp(self._logprobs(rows))]

    def __call__(self, rows: Sequence[Row]) -> list[str]:
        """The most likely label of each row."""
        return [self.labels[i] for i in self._logprobs(rows).argmax(axis=1)]

    def shares(self, rows: Sequence[Row]) -> dict[str, float]:
        """How often each label is answered: far from what is expected means that the prompt leans."""
        counts = Counter(self(rows))
        return {label: counts[label] / max(1, len(rows)) for label in self.labels}

    def invoke(self, inputs: Row, /) -> Answer:
        """The most likely label, with its log-probability as score and all labels as candidates."""
        return self.batch([inputs])[0]

    def batch(self, inputs: Sequence[Row], /) -> list[Answer]:
        """Answers to many, in one call."""
        answers = []
        for row in self._logprobs(inputs):
            ranking = sorted(range(len(self.labels)), key=lambda i: -row[i])
            candidates = tuple(Completion(self.labels[i], logprob=float(row[i])) for i in ranking)
            best = candidates[0]
            answers.append(Answer(best.text, score=best.logprob, candidates=candidates, parsed=best.text))
        return answers

    def __repr__(self) -> str:
        return f"LabelClassifier({self.prompt!r}, {list(self.labels)}, calibrated={bool(self.content_free)})"

    @property
    def _chooses(self) -> bool:
        """Whether each item has examples of its own, and so a bias of its own."""
        return chooses(self.prompt)

    def _logprobs(self, rows: Sequence[Row]) -> LogProbs:
        """`[rows, labels]`, each row normalised."""
        inputs = [_inputs(row) for row in rows]
        asked = [fill(self.prompt, row) for row in inputs]
        if not (self.content_free and self._chooses):
            found = label_logprobs(self.scorer, asked, self.words)
            return found if self._offset is None else _normalised(found - self._offset)
        # The item's prompt and its empty ones begin alike, so a scorer that shares prefixes reads the examples once.
        each = [[messages, *self._empty(fixed(self.prompt, row))] for messages, row in zip(asked, inputs, strict=True)]
        size = 1 + len(self.content_free)
        found = label_logprobs(self.scorer, [m for group in each for m in group], self.words)
        found = found.reshape(len(each), size, len(self.labels))
        return _normalised(found[:, 0] - _mean(found[:, 1:]))

    def _empty(self, prompt: Prompt) -> list[Messages]:
        return [fill(prompt, dict.fromkeys(prompt.variables, words)) for words in self.content_free]

    def _measure(self) -> None:
        found = label_logprobs(self.scorer, self._empty(self.prompt), self.words)
        self._offset = _mean(found)
        after = np.zeros_like(found)  # one word alone is even by construction
        if len(found) > 1:
            after = np.array([row - _mean(np.delete(found, i, axis=0)) for i, row in enumerate(found)])
        before, later = np.exp(found), np.exp(_normalised(after))
        self.bias = Bias(
            before=dict(zip(self.labels, before.mean(axis=0).tolist(), strict=True)),
            after=dict(zip(self.labels, later.mean(axis=0).tolist(), strict=True)),
            leaning_before=_leaning(before),
            leaning_after=_leaning(later),
        )


def calibrate(
    scorer: Scorer,
    prompt: Any,
    labels: Sequence[str] | Mapping[str, str],
    *,
    content_free: Sequence[str] = CONTENT_FREE,
) -> LabelClassifier:
    """A classifier whose prompt's leaning is divided out, measured on `content_free` words in place of all variables.

    A variable that is the same for all rows, such as a list of labels, is given with `prompt.partial(…)` first.
    `classifier.bias` reports the leaning before and after; it is None where each item has examples of its own.
    Raises PromptError for what can't score, for fewer than two labels, and for a prompt without variables.
    """
    prompt = as_prompt(prompt)
    if not prompt.variables:
        raise PromptError(
            "the prompt has no variable, so every row reads alike: write {text}, say, where the item goes"
        )
    if isinstance(content_free, str) or not content_free:
        raise PromptError("content_free is a list of words without content, such as ['N/A', '']; give at least one")
    return LabelClassifier(scorer, prompt, labels, content_free=content_free)


def label_logprobs(scorer: Scorer, prompts: Sequence[Messages], words: Sequence[str]) -> LogProbs:
    """How likely each of some words is behind each prompt, among these words: natural log, `[prompts, words]`."""
    if not prompts:
        return np.zeros((0, len(words)))
    texts = [[following(m[-1].content, w) if m[0].role == "text" else w for w in words] for m in prompts]
    scores = scorer.score(prompts, texts)
    return _normalised(np.array([[score.logprob for score in row] for row in scores], float))


def _leaning(probabilities: NDArray[np.float64]) -> float:
    return float(np.abs(probabilities - 1 / probabilities.shape[1]).sum(axis=1).mean() / 2)


def _normalised(logits: LogProbs) -> LogProbs:
    total: LogProbs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return total


def _mean(logprobs: LogProbs) -> LogProbs:
    """The log of the mean probability over the words without content, `[..., words, labels]` to `[..., labels]`."""
    mean: LogProbs = np.logaddexp.reduce(logprobs, axis=-2) - np.log(logprobs.shape[-2])
    return mean


def _inputs(row: Row) -> Mapping[str, Any]:
    if isinstance(row, Example):
        return row.inputs
    if not isinstance(row, Mapping):
        raise DataError(f"a row is a mapping of inputs or an Example, not {type(row).__name__}: {row!r:.60}")
    return row


__all__ = ["CONTENT_FREE", "Bias", "LabelClassifier", "calibrate", "label_logprobs"]
