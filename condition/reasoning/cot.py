"""Thinking before answering, in words.

    ZeroShotCoT(model).invoke({"question": "Ann has 3 apples and buys 4. How many has she?"})
    ChainOfThought(model, shots).batch([{"question": q} for q in questions])     # shots: a prompt with worked examples

ZeroShotCoT asks twice, for the reasoning and for the answer in it (Kojima et al. 2022, arXiv 2205.11916).
ChainOfThought asks once; the prompt shows how to reason (Wei et al. 2022, arXiv 2201.11903).
"""

from __future__ import annotations

from typing import Any, final

from condition.errors import ConditionError
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.prompts.told import tell
from condition.reasoning.answers import Parse, parsed, parser_of
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.steps import Program, ask
from condition.reasoning.turns import reply
from condition.types import Answer, Completion, Sampling

THINKING = Sampling(max_tokens=256, temperature=0.0)
TRIGGER = "Let's think step by step."
READING = Sampling(max_tokens=32, temperature=0.0)
"""For an answer that is all there already."""


@final
class ChainOfThought(Reasoner):
    """One call: the model writes its reasoning and the answer behind it.

    `prompt` is any prompt, a string or pairs; its examples show the reasoning. `parse` finds the answer in what was
    written; without one the prompt's own does, or what follows the last "the answer is", else the last line.
    The Answer has the answer as text, all that was written as reasoning, and the log-probability of that as score.
    """

    def __init__(
        self,
        model: Any,
        prompt: Any,
        *,
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        self.model = as_model(model)
        self.prompt = as_prompt(prompt)
        self.parse = parser_of(self.prompt, parse)
        self.sampling = sampling
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        ((written, *others),) = yield from ask(self.model, [fill(self.prompt, inputs)], self.sampling)
        return answer_in(self.parse, written, (written, *others))


@final
class ZeroShotCoT(Reasoner):
    """Two calls: "Let's think step by step.", then the answer out of what was thought.

    The second call goes on from the first and is greedy. `extract` names the kind of answer where it helps:
    "Therefore, the answer (arabic numerals) is".
    """

    def __init__(
        self,
        model: Any,
        prompt: Any = "{question}",
        *,
        trigger: str = TRIGGER,
        extract: str = "Therefore, the answer is",
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        self.model = as_model(model)
        self.prompt = as_prompt(prompt)
        self.trigger = trigger
        self.extract = extract
        self.parse = parser_of(self.prompt, parse)
        self.sampling = sampling
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        asked = tell(fill(self.prompt, inputs), self.trigger, " ")
        ((thought, *_),) = yield from ask(self.model, [asked], self.sampling)
        told = reply(asked, thought.text, self.extract)
        try:
            ((said, *_),) = yield from ask(self.model, [told], READING, fixed=True)
        except ConditionError as error:
            return Answer("", thought.text, thought.logprob, (thought,), error=str(error))
        answer = answer_in(self.parse, said, (thought, said))
        return answer.model_copy(update={"reasoning": thought.text, "score": thought.logprob})


def answer_in(parse: Parse, written: Completion, candidates: tuple[Completion, ...] = ()) -> Answer:
    """The answer in a completion, the whole of which is its reasoning. Where there is none, `error` says why."""
    trace: dict[str, Any] = {
        "reasoning": written.text,
        "score": written.logprob,
        "candidates": candidates or (written,),
    }
    try:
        value = parsed(parse, written.text)
    except ConditionError as error:
        return Answer("", **trace, error=str(error))
    return Answer(str(value), **trace, parsed=value)
