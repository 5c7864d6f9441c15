"""Reasoning from given facts, one grounded step after the other.

    chain = SelectionInference(model)
    answer = chain.invoke({"facts": ["Mice fear cats.", "Emma is a mouse."], "question": "What does Emma fear?"})
    [step.chosen for step in answer.parsed.steps]      # each of them a given fact, or one that was inferred before

Selection-Inference: Creswell et al. 2022, arXiv 2205.09712; the halter: Creswell and Shanahan 2022, arXiv 2208.14271.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

from condition.errors import ConditionError, ModelError, PromptError
from condition.models.arguments import check_counts
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.parse import listed
from condition.protocols import Prompt
from condition.reasoning.answers import Parse, parser_of
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.cot import THINKING, answer_in
from condition.reasoning.steps import Program, ask
from condition.reasoning.turns import prompt_with
from condition.types import Answer, Sampling

SELECT = (
    "Facts:\n{facts}\n\nQuestion: {question}\n\n"
    "Which of the facts together lead one step further? Copy them word for word, one a line, and nothing else."
)
INFER = "{chosen}\n\nWhat follows from these facts alone? Write one short sentence and nothing else."
HALT = (
    "Facts:\n{facts}\n\nQuestion: {question}\n\n"
    'Answer from the facts alone. If they do not hold the answer yet, write "unknown" and nothing else.'
)


class Inference(NamedTuple):
    """One step: facts that were chosen, word for word as they were known, and what was inferred from them."""

    chosen: tuple[str, ...]
    inferred: str


class Derivation(NamedTuple):
    """The steps to an answer, and the answer."""

    steps: tuple[Inference, ...]
    answer: str | None


@final
class SelectionInference(Reasoner):
    """Chooses facts, infers a new one from these alone, and asks whether that is enough: up to `depth` times.

    Inputs are `facts` (a list, or lines) and those of the prompts. `select` (`facts`), `infer` (`chosen`) and `halt`
    (`facts`) are prompts; a reply to `halt` that contains `unknown` goes on. A chosen line that is no known fact is
    left out, and a choice of nothing else ends the problem: no step stands on what was made up.
    The Answer's `parsed` is a Derivation, and its reasoning the same in words.
    """

    def __init__(
        self,
        model: Any,
        prompt: Any = HALT,
        *,
        select: Any = SELECT,
        infer: Any = INFER,
        depth: int = 5,
        unknown: str = "unknown",
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        check_counts(depth=depth)
        self.model = as_model(model)
        self.halt = prompt_with(prompt, "facts")
        self.select = prompt_with(select, "facts")
        self.infer = prompt_with(infer, "chosen")
        self.depth = depth
        self.unknown = unknown.casefold()
        self.parse = parser_of(self.halt, parse)
        self.sampling = sampling
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        return self.select.variables | self.halt.variables | (self.infer.variables - {"chosen"})

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        known = _facts(inputs["facts"])
        taken: list[Inference] = []
        try:
            for _ in range(self.depth):
                step = yield from self._step(inputs, known)
                taken.append(step)
                known.append(step.inferred)
                ((said, *_),) = yield from ask(self.model, [self._shown(self.halt, inputs, known)], self.sampling)
                if self.unknown in said.text.casefold():
                    continue
                answer = answer_in(self.parse, said)
                derived = Derivation(tuple(taken), answer.text or None)
                return answer.model_copy(update={"reasoning": _in_words(taken), "parsed": derived})
        except ConditionError as error:
            return _unanswered(taken, str(error))
        return _unanswered(taken, f"no answer after {self.depth} steps; give a larger depth=")

    def _step(self, inputs: Inputs, known: Sequence[str]) -> Program[Inference]:
        ((said, *_),) = yield from ask(self.model, [self._shown(self.select, inputs, known)], self.sampling)
        chosen = grounded(said.text, known)
        if not chosen:
            raise ModelError(f"{said.text.strip()[:80]!r} chooses none of the facts; show in select= how to copy them")
        asked = self._shown(self.infer, {**inputs, "chosen": "\n".join(chosen)}, known)
        ((said, *_),) = yield from ask(self.model, [asked], self.sampling)
        inferred = next(iter(listed(said.text)), "")
        if not inferred or _plain(inferred) in map(_plain, known):
            raise ModelError(f"nothing new was inferred from {'; '.join(chosen)!r:.120}: {inferred!r:.80}")
        return Inference(chosen, inferred)

    @staticmethod
    def _shown(prompt: Prompt, inputs: Inputs, known: Sequence[str]) -> Any:
        return fill(prompt, {**inputs, "facts": "\n".join(known)})


def grounded(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known facts among a text's lines, each once, as they are known; case, bullets and a last dot do not count."""
    by_plain = {_plain(fact): fact for fact in known}
    lines = [_plain(form) for line in text.splitlines() for form in (line, *listed(line))]
    return tuple(dict.fromkeys(by_plain[line] for line in lines if line in by_plain))


def _plain(fact: str) -> str:
    return " ".join(fact.split()).strip("\"'`").removesuffix(".").casefold()


def _facts(given: object) -> list[str]:
    if isinstance(given, str):
        given = given.splitlines()
    if not isinstance(given, Sequence) or not all(isinstance(fact, str) for fact in given):
        raise PromptError(f"facts={given!r:.80}: give a list of sentences, or a text with one a line")
    found = [fact.strip() for fact in given if fact.strip()]
    if not found:
        raise PromptError("no facts to choose from: give a list of sentences")
    return found


def _in_words(steps: Sequence[Inference]) -> str:
    return "\n".join(f"{' '.join(step.chosen)} Therefore: {step.inferred}" for step in steps)


def _unanswered(steps: Sequence[Inference], why: str) -> Answer:
    return Answer("", reasoning=_in_words(steps) or None, parsed=Derivation(tuple(steps), None), error=why)
