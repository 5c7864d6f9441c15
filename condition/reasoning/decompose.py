"""Hard questions as easier ones.

    LeastToMost(model).invoke({"question": "..."})     # easier questions one after the other, each knows those before
    Decompose(model).invoke({"question": "..."})       # questions that stand alone, answered at once, then put together

Least-to-most prompting: Zhou et al. 2022, arXiv 2205.10625. Decomposed prompting: Khot et al. 2022, arXiv 2210.02406.
Prompts are arguments: give your own, with examples of how your questions fall apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from condition.errors import ConditionError, ModelError
from condition.models.arguments import check_counts
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.parse import listed
from condition.prompts.template import as_prompt
from condition.reasoning.answers import Parse, parser_of, texts_in
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.cot import THINKING, answer_in
from condition.reasoning.steps import Program, ask, tried
from condition.reasoning.turns import prompt_with
from condition.types import Answer, Completion, Sampling

EASIER_FIRST = (
    "{question}\n\nWhich easier questions have to be answered first, in this order? "
    "Write one a line, the easiest first, and nothing else."
)
STEP = "{question}\n\n{solved}Q: {subquestion}\nA:"
APART = (
    "{question}\n\nWhich questions, each of which can be answered without the others, lead to the answer? "
    "Write one a line and nothing else."
)
PART = "{subquestion}\nAnswer briefly."
WHOLE = "{solved}\nWith these answers: {question}\nThe answer is"


@final
class LeastToMost(Reasoner):
    """Splits a question into easier ones, and answers them in order, each with all answers before it.

    `split` (the inputs' variables) asks for the easier questions, one a line, which `parse_split` reads. `solve`
    (the inputs' variables, `solved` and `subquestion`) asks each of them. The question itself is the last, unless
    `last` is None: then the answer to the last easier one is the answer. At most `most` easier ones are taken.
    `parse` finds the answer in the last reply: by default the prompt's own parser, else `final_answer`.
    """

    def __init__(
        self,
        model: Any,
        prompt: Any = STEP,
        *,
        split: Any = EASIER_FIRST,
        parse_split: Callable[[str], Sequence[str]] | None = None,
        last: str | None = "question",
        most: int = 12,
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        check_counts(most=most)
        self.model = as_model(model)
        self.solve = prompt_with(prompt, "subquestion", "solved")
        self.split = as_prompt(split)
        self.parse_split = parser_of(self.split, parse_split, listed)
        self.last = last
        self.most = most
        self.parse = parser_of(self.solve, parse)
        self.sampling = sampling
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        own = {self.last} if self.last else set()
        return self.split.variables | (self.solve.variables - {"solved", "subquestion"}) | own

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        ((plan, *_),) = yield from ask(self.model, [fill(self.split, inputs)], self.sampling)
        whole = [str(inputs[self.last])] if self.last else []
        easier = [q for q in dict.fromkeys(texts_in(self.parse_split, plan.text)) if q not in whole]
        questions = [*easier[: self.most], *whole]
        if not questions:
            raise ModelError("the question was split into nothing: change split=, or give last= an input's name")
        solved, written = "", [plan]
        for question in questions:
            asked = fill(self.solve, {**inputs, "solved": solved, "subquestion": question})
            try:
                ((said, *_),) = yield from ask(self.model, [asked], self.sampling)
            except ConditionError as error:
                return Answer("", reasoning=solved.rstrip(), candidates=tuple(written), error=str(error))
            written.append(said)
            solved += f"Q: {question}\nA: {said.text.strip()}\n\n"
        return _behind(answer_in(self.parse, written[-1]), solved, written)


@final
class Decompose(Reasoner):
    """Splits a question into questions that stand alone, answers them all at once, and puts the answers together.

    `split` asks for the questions, one a line, which `parse_split` reads; `part` (`subquestion`) asks one of them;
    `prompt` (`solved`) asks for the whole, and `parse` finds the answer in the reply. Three calls, whatever the number
    of problems and of questions. Where a part has no answer the Answer has the others as reasoning.
    """

    def __init__(
        self,
        model: Any,
        prompt: Any = WHOLE,
        *,
        split: Any = APART,
        part: Any = PART,
        parse_split: Callable[[str], Sequence[str]] | None = None,
        most: int = 12,
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        check_counts(most=most)
        self.model = as_model(model)
        self.whole = prompt_with(prompt, "solved")
        self.split = as_prompt(split)
        self.part = prompt_with(part, "subquestion")
        self.parse_split = parser_of(self.split, parse_split, listed)
        self.most = most
        self.parse = parser_of(self.whole, parse)
        self.sampling = sampling
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        inner = self.whole.variables | self.part.variables
        return self.split.variables | (inner - {"solved", "subquestion"})

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        ((plan, *_),) = yield from ask(self.model, [fill(self.split, inputs)], self.sampling)
        questions = list(dict.fromkeys(texts_in(self.parse_split, plan.text)))[: self.most]
        prompts = [fill(self.part, {**inputs, "subquestion": question}) for question in questions]
        told, failed = yield from tried(self.model, questions, prompts, self.sampling)
        parts = [said for _, said in told]
        solved = "".join(f"Q: {q}\nA: {said.text.strip()}\n\n" for q, said in told)
        if failed is not None:
            return Answer("", reasoning=solved.rstrip(), candidates=(plan, *parts), error=failed)
        try:
            ((said, *_),) = yield from ask(self.model, [fill(self.whole, {**inputs, "solved": solved})], self.sampling)
        except ConditionError as error:
            return Answer("", reasoning=solved.rstrip(), candidates=(plan, *parts), error=str(error))
        return _behind(answer_in(self.parse, said), solved, [plan, *parts, said])


def _behind(answer: Answer, solved: str, written: Sequence[Completion]) -> Answer:
    """The answer with what was solved before it as reasoning."""
    return answer.model_copy(update={"reasoning": solved.rstrip(), "candidates": tuple(written)})
