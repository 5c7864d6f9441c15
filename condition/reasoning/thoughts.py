"""The four prompts of a tree of thoughts: propose next steps, evaluate them, reason out an answer, rank the answers.

    PROMPTS["propose"]                                       # each is a prompt like any other
    TreeOfThoughts(model, prompts={"propose": "{question}\\n{steps}\\nName {thoughts} next moves, one a line."})

Every prompt may use the inputs and `steps`, the thoughts so far; propose also `thoughts`, how many are wanted, and rank
`candidates`, numbered from 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, final

from condition.errors import BudgetError, ConditionError, ModelError, SettingsError
from condition.prompts.fill import fill
from condition.prompts.parse import mark
from condition.protocols import Model, Prompt
from condition.reasoning.answers import Parse, number_in, texts_in
from condition.reasoning.chain import Inputs
from condition.reasoning.cot import READING, answer_in
from condition.reasoning.steps import Program, ask, together
from condition.reasoning.turns import prompt_with
from condition.types import Answer, Messages, Sampling

T = TypeVar("T")
Path = tuple[str, ...]
Evaluation = Literal["value", "vote"]

PROMPTS: Mapping[str, str] = {
    "propose": "{question}\n\nSteps so far:\n{steps}\n\n"
    "Write {thoughts} different possible next steps, one a line, and nothing else.",
    "evaluate": "{question}\n\nSteps so far:\n{steps}\n\n"
    "Can these steps still lead to the answer? Say sure, likely or impossible, and nothing else.",
    "reason": "{question}\n\nSteps:\n{steps}\n\n"
    'Follow these steps to the end. Then write "The answer is" and the answer.',
    "rank": "{question}\n\n{candidates}\n\nWhich of these is best? Give its number and nothing else.",
}
_NEEDED = {"propose": "steps", "evaluate": "steps", "reason": "steps", "rank": "candidates"}
_FILLED = frozenset({"steps", "thoughts", "candidates"})
_WORDS = {"sure": 20.0, "likely": 1.0, "impossible": 0.001, "not sure": 1.0, "not likely": 0.001, "not impossible": 1.0}
"""The values of Yao et al., and what their denials come to."""
_SAID = re.compile(r"\b((?:not|\w+n['’]t) )?(?:(?:at all|so|very|really) )?(sure|likely|impossible)\b")


def worth(text: str) -> float:
    """20 for sure, 1 for likely, 0.001 for impossible, by the last of these words; else the mark."""
    words = _SAID.findall(text.lower())
    if not words:
        return mark(text)
    denial, word = words[-1]
    return _WORDS[f"not {word}" if denial else word]


@final
class Prompts:
    """The four prompts. Raises SettingsError for one of another name, PromptError for one without what is filled in."""

    def __init__(self, changes: Mapping[str, Any] | None = None) -> None:
        given = dict(changes or {})
        if unknown := sorted(given.keys() - PROMPTS.keys()):
            near = get_close_matches(unknown[0], PROMPTS, n=1) or [", ".join(PROMPTS)]
            raise SettingsError(f"a tree has no prompt {unknown[0]!r}; did you mean {near[0]}?")
        made = {name: prompt_with(given.get(name, text), _NEEDED[name]) for name, text in PROMPTS.items()}
        self.by_name: Mapping[str, Prompt] = made

    @property
    def variables(self) -> frozenset[str]:
        """The inputs that they need."""
        return frozenset[str]().union(*(prompt.variables for prompt in self.by_name.values())) - _FILLED

    def fill(self, name: str, inputs: Inputs, path: Path = (), **more: Any) -> Messages:
        """One of them about a path."""
        steps = "\n".join(f"{i}. {step}" for i, step in enumerate(path, 1)) or "none yet"
        return fill(self.by_name[name], {**inputs, "steps": steps, **more})


@final
@dataclass(frozen=True, kw_only=True)
class Thinker:
    """The four steps of a problem, each for all paths at once. A path that fails loses, a spent budget ends all."""

    model: Model
    prompts: Prompts
    thoughts: int
    sample: bool
    votes: int
    sampling: Sampling
    temperature: float
    parse_thoughts: Callable[[str], Sequence[str]]
    parse_value: Parse
    parse: Parse

    def propose(self, inputs: Inputs, paths: Sequence[Path]) -> Program[list[list[Path]]]:
        """Longer paths for each path, none twice."""
        found = yield from together(self._next(inputs, path) for path in paths)
        return surviving(found, [])

    def value(self, inputs: Inputs, paths: Sequence[Path]) -> Program[list[float]]:
        """What each path is worth, by itself: the sum over the votes."""
        found = yield from together(self._worth(inputs, path) for path in paths)
        return surviving(found, -math.inf)

    def vote(self, inputs: Inputs, paths: Sequence[Path]) -> Program[list[float]]:
        """How many votes each path gets when all are looked at together."""
        if len(paths) < 2:
            return [float(self.votes)] * len(paths)
        shown = ["\n".join(path) for path in paths]
        (completions,) = yield from ask(
            self.model, [self._ranking(inputs, shown)], self._drawn(READING, self.votes), fixed=True
        )
        chosen = [place for c in completions if (place := _place(c.text, len(paths))) is not None]
        if not chosen:
            raise ModelError(f"no vote names one of {len(paths)} candidates: {completions[0].text[:80]!r}")
        return [float(chosen.count(place)) for place in range(len(paths))]

    def reason(self, inputs: Inputs, paths: Sequence[Path]) -> Program[list[Answer]]:
        """The answer that each path leads to."""
        found = yield from together(self._answer(inputs, path) for path in paths)
        return surviving(found, Answer("", error="not answered"))

    def rank(self, inputs: Inputs, texts: Sequence[str]) -> Program[int]:
        """The place of the best text. Raises ModelError where none is named."""
        ((said, *_),) = yield from ask(self.model, [self._ranking(inputs, texts)], READING, fixed=True)
        place = _place(said.text, len(texts))
        if place is None:
            raise ModelError(f"{said.text[:80]!r} names none of {len(texts)} candidates")
        return place

    def _next(self, inputs: Inputs, path: Path) -> Program[list[Path]]:
        asked = self.prompts.fill("propose", inputs, path, thoughts=self.thoughts)
        sampling = self._drawn(self.sampling, self.thoughts) if self.sample else self.sampling
        (completions,) = yield from ask(self.model, [asked], sampling)
        said = [[c.text.strip()] if self.sample else texts_in(self.parse_thoughts, c.text) for c in completions]
        different = dict.fromkeys(thought for thoughts in said for thought in thoughts if thought)
        return [(*path, thought) for thought in list(different)[: self.thoughts]]

    def _worth(self, inputs: Inputs, path: Path) -> Program[float]:
        asked = self.prompts.fill("evaluate", inputs, path)
        (completions,) = yield from ask(self.model, [asked], self._drawn(READING, self.votes), fixed=True)
        return sum(number_in(self.parse_value, found.text) for found in completions)

    def _answer(self, inputs: Inputs, path: Path) -> Program[Answer]:
        ((said, *_),) = yield from ask(self.model, [self.prompts.fill("reason", inputs, path)], self.sampling)
        answer = answer_in(self.parse, said)
        return answer.model_copy(update={"reasoning": "\n".join((*path, said.text.strip()))})

    def _ranking(self, inputs: Inputs, texts: Sequence[str]) -> Messages:
        shown = "\n\n".join(f"{i}. {text}" for i, text in enumerate(texts, 1))
        return self.prompts.fill("rank", inputs, candidates=shown)

    def _drawn(self, sampling: Sampling, n: int) -> Sampling:
        """Greedy for one; else n samples, at the temperature where none was set."""
        if n == 1:
            return sampling
        return sampling.model_copy(update={"n": n, "temperature": sampling.temperature or self.temperature})


def surviving(ends: Sequence[T | ConditionError], lost: T) -> list[T]:
    """The results, `lost` for those that failed. Raises the first error of a budget, or where all failed."""
    errors = [end for end in ends if isinstance(end, ConditionError)]
    over = [error for error in errors if isinstance(error, BudgetError)]
    if over or (errors and len(errors) == len(ends)):
        raise (over or errors)[0]
    return [lost if isinstance(end, ConditionError) else end for end in ends]


def _place(text: str, length: int) -> int | None:
    """The first number from 1 to `length` in a text, counted from 0."""
    numbers = [int(found) for found in re.findall(r"\d+", text)]
    return next((n - 1 for n in numbers if 1 <= n <= length), None)
