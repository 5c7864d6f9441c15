"""Answer, or say that there is no answer: a threshold on how much likelier the answer is.

A tuned model that says "unanswerable" too often, or too seldom, still ranks its questions well. So the answer is
written in any case, and given only where its log-probability a token exceeds that of saying that there is none by a
threshold that held-back rows chose: the best-threshold practice of SQuAD 2.0, Rajpurkar et al. 2018, arXiv 1806.03822.
A mean over the answer's tokens, so that long answers are not held for doubtful ones.

    chain = Abstain(tuned).calibrate(held_back)
    chain.invoke({"context": passage, "question": "When was Ada born?"}).text
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from condition.data.formats import NO_ANSWER, is_abstention, is_squad, squad_answers
from condition.data.read import locate
from condition.errors import DataError, PromptError
from condition.models.local import LocalModel
from condition.prompts.fill import fill, several
from condition.prompts.template import as_prompt
from condition.protocols import Metric, Prompt
from condition.types import Answer, Example, Sampling, Usage


@final
class Abstain:
    """A chain that gives the model's answer where its margin exceeds `threshold`, and `no_answer` elsewhere.

    `Answer.score` is the margin in nats: log p(answer) / tokens - log p(no answer), both without the stop token.
    Raises PromptError where neither the model nor the caller brings a prompt.
    """

    def __init__(
        self,
        model: LocalModel,
        prompt: Prompt | str | None = None,
        *,
        threshold: float = 0.0,
        no_answer: str = NO_ANSWER,
        max_tokens: int = 32,
    ) -> None:
        own = model.prompt if prompt is None else as_prompt(prompt)
        if own is None:
            raise PromptError("this model has no prompt of its own: Abstain(model, prompt)")
        self.model = model
        self.prompt = own
        self.threshold = threshold
        self.no_answer = no_answer
        self.max_tokens = max_tokens

    def __repr__(self) -> str:
        return f"Abstain({self.model!r}, threshold={self.threshold:.3g})"

    def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
        """The answer to one set of the prompt's inputs."""
        return self.batch([inputs])[0]

    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
        """Answers to many, in one call of the network to write and one to score."""
        return [self._decided(answer) for answer in self._answers(several(inputs))]

    def calibrate(self, rows: object, metric: Metric | None = None) -> Abstain:
        """The same chain with the threshold that is best on `rows`, which should not be training rows.

        `rows` are SQuAD rows, a path to them, or Examples whose target is `no_answer` where there is none.
        `metric(prediction, answers)` measures a text ("" for no answer) against the gold answers (none: no answer); its
        last measure counts. Without one it is the share of exact answers. Raises DataError for no rows.
        """
        measure = metric or _exact
        known = [_known(row, where, self.no_answer) for row, where in locate(rows)]
        if not known:
            raise DataError("no rows to choose a threshold on")
        answers = self._answers([inputs for inputs, _ in known])
        gains = [
            _last(measure("" if is_abstention(a.text, self.no_answer) else a.text, golds)) - _last(measure("", golds))
            for a, (_, golds) in zip(answers, known, strict=True)
        ]
        threshold = best_threshold([a.score or 0.0 for a in answers], gains)
        return Abstain(
            self.model, self.prompt, threshold=threshold, no_answer=self.no_answer, max_tokens=self.max_tokens
        )

    def _answers(self, inputs: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """What the model would answer if it had to, with its margin."""
        messages = [fill(self.prompt, given) for given in inputs]
        forced = _NotFirst((self.no_answer, f" {self.no_answer}"))
        written = self.model.generate(messages, Sampling(max_tokens=self.max_tokens), control=forced)
        scores = self.model.score(messages, [[self.no_answer]] * len(messages))
        return [
            Answer(
                best.text,
                score=(best.logprob or 0.0) / max(1, len(best.token_ids)) - none.logprob,
                candidates=(best,),
                usage=best.usage or Usage(),
            )
            for (best, *_), (none,) in zip(written, scores, strict=True)
        ]

    def _decided(self, answer: Answer) -> Answer:
        answers = (answer.score or 0.0) > self.threshold
        return answer if answers else answer.model_copy(update={"text": self.no_answer})


def best_threshold(margins: Sequence[float], gains: Sequence[float]) -> float:
    """The threshold with the largest sum of `gains` over rows whose margin exceeds it.

    `gains[i]` is what answering row i earns over abstaining. Lies midway between two margins; infinite where
    answering never, or always, is best.
    """
    order = sorted(range(len(margins)), key=lambda i: -margins[i])
    cuts = [float("inf"), *((margins[a] + margins[b]) / 2 for a, b in pairwise(order)), float("-inf")]
    best, best_total, total = cuts[0], 0.0, 0.0
    for place, row in enumerate(order):
        total += gains[row]
        last = place + 1 == len(order)
        if total > best_total and (last or margins[order[place + 1]] < margins[row]):
            best, best_total = cuts[place + 1], total
    return best


class _NotFirst:
    """A Control: completions do not begin with the first token of any of some texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> LogitsProcessor:
        return _Ban(sorted(set(_first_tokens(tokenizer, self.texts))))


def _first_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[int]:
    for text in texts:
        yield from tokenizer.encode(text, add_special_tokens=False)[:1]


class _Ban(LogitsProcessor):
    """Some tokens can't come first."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self.start: int | None = None
        """Length of the prompts, known from the first call on."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """ids `[rows, tokens]`, scores `[rows, vocabulary]`."""
        if self.start is None:
            self.start = input_ids.shape[1]
        if input_ids.shape[1] > self.start:
            return scores
        banned = torch.tensor(self.tokens, device=scores.device)
        return scores.index_fill(1, banned, float("-inf"))


def _known(row: Mapping[str, Any], where: str, no_answer: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Inputs and gold answers of a row."""
    example = row.get("__example__")
    if isinstance(example, Example):
        return example.inputs, () if example.target == no_answer else (example.target,)
    if not is_squad(row):
        raise DataError(f"{where}: give Examples, or rows with SQuAD's columns; this has {', '.join(map(repr, row))}")
    return {name: value for name, value in row.items() if name not in ("answers", "id")}, squad_answers(row, where)


def _exact(prediction: str, answers: Sequence[str], /) -> Mapping[str, float]:
    golds = [answer.strip().lower() for answer in answers] or [""]
    return {"exact": float(prediction.strip().lower() in golds)}


def _last(measures: Mapping[str, float]) -> float:
    return list(measures.values())[-1]
