"""The best of several answers, as a verifier sees it.

    chain = BestOf(ChainOfThought(model, shots), JudgeVerifier(model), samples=8)
    chain.invoke({"question": "..."})                  # the answer with the highest mark, which is its score

Cobbe et al. 2021, arXiv 2110.14168.
"""

from __future__ import annotations

from typing import Any, Literal, final

from condition.errors import BudgetError, ConditionError, SettingsError
from condition.models.arguments import check_counts
from condition.protocols import Verifier
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.direct import as_steps
from condition.reasoning.sampled import sampled, written
from condition.reasoning.steps import Program, together
from condition.reasoning.verify import verified
from condition.types import Answer, Sampling


@final
class BestOf(Reasoner):
    """The one of `samples` answers of a chain that the verifier scores highest; of equals, the one that came first.

    The verifier reads each different answer once, or with `reads="reasoning"` all that was written. A chain that is
    greedy is asked at `temperature`. The Answer has the verifier's number as score, and what each sample wrote, those
    without an answer too, as its candidates.
    """

    def __init__(
        self,
        chain: Any,
        verifier: Verifier,
        samples: int = 8,
        *,
        reads: Literal["answer", "reasoning"] = "answer",
        temperature: float = 0.7,
        seed: int | None = None,
        budget: Budget | None = None,
    ) -> None:
        check_counts(samples=samples)
        if not callable(verifier):
            raise SettingsError(f"{verifier!r:.60} is no verifier: give a function of a question and candidates")
        if reads not in ("answer", "reasoning"):
            raise SettingsError(f"reads={reads!r}: give 'answer' or 'reasoning'")
        self.chain = as_steps(chain)
        self.verifier = verifier
        self.samples = samples
        self.reads = reads
        self.temperature = Sampling(temperature=temperature, seed=seed).temperature
        self.seed = seed
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        return self.chain.variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        ends = yield from together(
            sampled(self.chain.within(inputs), self.temperature, self.seed) for _ in range(self.samples)
        )
        found = [end for end in ends if isinstance(end, Answer) and end.error is None]
        paths = tuple(written(ends))
        if not found:
            return Answer("", candidates=paths, error=_why(ends[0]))
        texts = [(a.reasoning if self.reads == "reasoning" else None) or a.text for a in found]
        different = list(dict.fromkeys(texts))
        try:
            scores = yield from verified(self.verifier, question_of(inputs), different)
        except ConditionError as error:  # unverified answers are better than none
            return found[0].model_copy(update={"candidates": paths, "score": None, "error": str(error)})
        marks = dict(zip(different, scores, strict=True))
        best = max(range(len(found)), key=lambda i: marks[texts[i]])
        cut = next((str(end) for end in ends if isinstance(end, BudgetError)), None)
        return found[best].model_copy(update={"candidates": paths, "score": marks[texts[best]], "error": cut})


def _why(end: Answer | ConditionError) -> str:
    return str(end) if isinstance(end, ConditionError) else end.error or "the chain gave no answer"


def question_of(inputs: Inputs) -> str:
    """The input called question, or the only one, or all of them with their names."""
    if "question" in inputs or len(inputs) == 1:
        return str(inputs.get("question", next(iter(inputs.values()))))
    return "\n".join(f"{name}: {value}" for name, value in inputs.items())
