"""Many ways to think, one vote on where they lead.

    chain = SelfConsistency(ChainOfThought(model, shots), samples=16)
    chain.invoke({"question": "..."}).text              # the answer that most of 16 chains of thought come to

Wang et al. 2022, arXiv 2203.11171. The samples of a prompt are computed behind one stored prompt. They are drawn in
rounds, and none is drawn that can't change the result.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any, final

from condition.errors import BudgetError, ConditionError, ModelError
from condition.models.arguments import check_counts
from condition.reasoning.answers import Parse, parsed, vote_of
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.direct import as_steps
from condition.reasoning.sampled import sampled, written
from condition.reasoning.steps import Program, together
from condition.types import Answer, Completion, Sampling


@final
class SelfConsistency(Reasoner):
    """The answer that most samples of a chain come to; of equally many, the one that came first.

    `parse` makes the value to vote on from an answer's text; without one the chain's own value counts, else its text.
    Samples without an answer do not vote; where half of them could not even be asked, `error` says so. `weighted`
    counts a sample as its likelihood a token, exp(mean log p). `early` leaves out samples that can't change who wins.
    A chain of steps that is greedy is asked at `temperature`; one of another kind must draw by itself.

    The Answer has the share of the votes as score, the first reasoning that led to the answer, and what each sample
    wrote, those without an answer too, as its candidates.
    """

    def __init__(
        self,
        chain: Any,
        samples: int = 16,
        parse: Parse | None = None,
        *,
        weighted: bool = False,
        early: bool = True,
        temperature: float = 0.7,
        seed: int | None = None,
        budget: Budget | None = None,
    ) -> None:
        check_counts(samples=samples)
        self.chain = as_steps(chain)
        self.samples = samples
        self.parse = parse
        self.weighted = weighted
        self.early = early
        self.temperature = Sampling(temperature=temperature, seed=seed).temperature
        self.seed = seed
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        return self.chain.variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        found: list[Answer] = []
        paths: list[Completion] = []
        problems: list[ConditionError] = []
        drawn = unasked = 0
        for size in rounds(self.samples) if self.early else [self.samples]:
            ends = yield from together(
                sampled(self.chain.within(inputs), self.temperature, self.seed, drawn) for _ in range(size)
            )
            drawn += size
            unasked += sum(isinstance(end, ConditionError) for end in ends)
            paths += written(ends)
            for end in ends:
                try:
                    found.append(self._read(end))
                except ConditionError as error:
                    problems.append(error)
            over = any(isinstance(error, BudgetError) for error in problems)
            if over or (self.early and self._is_decided(found, self.samples - drawn)):
                break
        why = _missing(problems, unasked, drawn)
        if not found:
            return Answer("", candidates=tuple(paths), error=why or str(problems[0]))
        return self._elected(found).model_copy(update={"candidates": tuple(paths), "error": why})

    def _read(self, end: Answer | ConditionError) -> Answer:
        if isinstance(end, ConditionError):
            raise end
        if end.error is not None:
            raise ModelError(end.error)
        return end if self.parse is None else end.model_copy(update={"parsed": parsed(self.parse, end.text)})

    def _elected(self, found: list[Answer]) -> Answer:
        votes = self._votes(found)
        winner = max(votes, key=lambda value: votes[value])  # the first of equals: a dict keeps the order of coming
        first = next(answer for answer in found if vote_of(answer) == winner)
        text = first.text if self.parse is None else str(first.parsed)
        share = votes[winner] / sum(votes.values())
        return Answer(text, first.reasoning, share, parsed=first.parsed)

    def _votes(self, found: list[Answer]) -> dict[Hashable, float]:
        votes: dict[Hashable, float] = {}
        for answer in found:
            value = vote_of(answer)
            votes[value] = votes.get(value, 0.0) + (_likelihood(answer) if self.weighted else 1.0)
        return votes

    def _is_decided(self, found: list[Answer], left: int) -> bool:
        """True where the lead is more than all samples that are left could bring: a vote weighs 1 at most."""
        first, second = (*sorted(self._votes(found).values(), reverse=True), 0.0, 0.0)[:2]
        return first - second > left


def rounds(samples: int) -> Iterator[int]:
    """Sizes of the rounds: a majority at once, then half of what is left each time. All problems share them."""
    size, left = samples // 2 + 1, samples
    while left:
        size = min(size, left)
        yield size
        left -= size
        size = math.ceil(left / 2)


def _missing(problems: list[ConditionError], unasked: int, drawn: int) -> str | None:
    """Why the vote is not the one that was asked for: out of budget, or most samples could not be asked."""
    over = next((str(error) for error in problems if isinstance(error, BudgetError)), None)
    if over or 2 * unasked < drawn:
        return over
    return f"{unasked} of {drawn} samples failed: {problems[0]}"


def _likelihood(answer: Answer) -> float:
    """exp of the mean log-probability of the reasoning's tokens, at most 1."""
    (path,) = written([answer])
    if path.logprob is None:
        raise ModelError("weighted=True needs a model that tells log-probabilities: use a local one, or weighted=False")
    return math.exp(min(0.0, path.logprob / max(1, len(path.token_ids))))
