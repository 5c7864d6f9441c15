"""An answer and why: the model answers, then explains; or explains every possible answer, then decides.

    AskAndExplain(model).invoke({"question": "Why is the sky blue?"}).reasoning      # the explanation of its answer
    AskAndExplain(model, choices=["yes", "no"]).invoke({"question": "Can a fish drown?"})

An explanation behind an answer does not change it (Camburu et al. 2018, arXiv 1812.01193). Explanations of all answers,
the wrong ones too, are weighed against each other, as in maieutic prompting (Jung et al. 2022, arXiv 2205.11822).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from condition.errors import ConditionError, ModelError, SettingsError
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.parse import before_answer, final_answer
from condition.prompts.template import as_prompt
from condition.reasoning.answers import Parse, parsed, parser_of
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.cot import READING, THINKING, answer_in
from condition.reasoning.steps import Program, ask, tried
from condition.reasoning.turns import prompt_with, reply
from condition.types import Answer, Sampling

BECAUSE = "Why? Explain in one or two sentences."
EXPLAIN = '{question}\n\nSuppose that the answer is "{answer}". Explain in one or two sentences why it would be right.'
DECIDE = (
    "{question}\n\n{explanations}\n\nWhich explanation convinces? Give the answer that it is for, and nothing else."
)


@final
class AskAndExplain(Reasoner):
    """Without `choices`: two calls, the answer to `prompt` and, going on from it, its explanation.

    With `choices`: two calls too, one explanation for each choice (`explain`, with the variable `answer`), and the
    choice that they speak for (`decide`, with the variable `explanations`). A reply that names no choice, or several,
    is an error. The Answer has the explanations as reasoning. `parse` reads the answer, or the choice, by default as
    the prompt's own parser does.
    """

    def __init__(
        self,
        model: Any,
        prompt: Any = "{question}",
        *,
        choices: Sequence[str] | None = None,
        because: str = BECAUSE,
        explain: Any = EXPLAIN,
        decide: Any = DECIDE,
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        if choices is not None and (isinstance(choices, str) or len(set(choices)) < 2):
            raise SettingsError(f"choices={choices!r:.60}: give two or more answers, or leave it out")
        self.model = as_model(model)
        self.prompt = as_prompt(prompt)
        self.choices = None if choices is None else tuple(choices)
        self.because = because
        self.explain = prompt_with(explain, "answer")
        self.decide = prompt_with(decide, "explanations")
        self.parse = parser_of(self.prompt, parse) if choices is None else parser_of(self.decide, parse, _said)
        self.sampling = sampling
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        if self.choices is None:
            return self.prompt.variables
        return (self.explain.variables | self.decide.variables) - {"answer", "explanations"}

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        return (yield from self._explained(inputs) if self.choices is None else self._chosen(inputs, self.choices))

    def _explained(self, inputs: Inputs) -> Program[Answer]:
        asked = fill(self.prompt, inputs)
        ((said, *_),) = yield from ask(self.model, [asked], self.sampling)
        answer = answer_in(self.parse, said)
        try:
            ((why, *_),) = yield from ask(self.model, [reply(asked, said.text, self.because)], self.sampling)
        except ConditionError as error:
            return answer.model_copy(update={"reasoning": None, "error": answer.error or str(error)})
        return answer.model_copy(update={"reasoning": why.text.strip(), "candidates": (said, why)})

    def _chosen(self, inputs: Inputs, choices: Sequence[str]) -> Program[Answer]:
        prompts = [fill(self.explain, {**inputs, "answer": choice}) for choice in choices]
        told, failed = yield from tried(self.model, choices, prompts, self.sampling)
        whys = [why for _, why in told]
        shown = "\n".join(f"{choice}: {why.text.strip()}" for choice, why in told)
        if failed is not None:
            return Answer("", reasoning=shown, candidates=tuple(whys), error=failed)
        try:
            asked = fill(self.decide, {**inputs, "explanations": shown})
            ((said, *_),) = yield from ask(self.model, [asked], READING, fixed=True)
            choice = named(str(parsed(self.parse, said.text)), choices)
        except ConditionError as error:
            return Answer("", reasoning=shown, candidates=tuple(whys), error=str(error))
        return Answer(choice, reasoning=shown, score=said.logprob, candidates=(*whys, said), parsed=choice)


def _said(text: str) -> str:
    """What is said to be the answer; where that is not said, all: the last line may refuse another choice."""
    whole = text.strip()
    return whole if before_answer(text) == whole else final_answer(text)


def named(text: str, choices: Sequence[str]) -> str:
    """The choice that a text is, or else the only one whose words it has. Raises ModelError for none or several."""
    plain = text.strip().casefold()
    same = [choice for choice in choices if choice.casefold() == plain]
    inside = [choice for choice in choices if f" {_words(choice)} " in f" {_words(text)} "]
    found = same or inside
    if len(found) != 1:
        raise ModelError(f"{text[:80]!r} names {', '.join(found) or 'none'} of the choices {', '.join(choices)}")
    return found[0]


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
