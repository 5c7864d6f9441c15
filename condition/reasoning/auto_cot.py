"""Chain of thought whose worked examples the model writes itself, from questions without answers.

    chain = AutoCoT(model, questions, demonstrations=8)        # asks the model for the examples, here
    chain.examples                                             # look at them
    chain.batch([{"question": q} for q in others])

Zhang et al. 2022, arXiv 2210.03493: cluster the questions, take from each cluster the question nearest to its middle
whose zero-shot reasoning is short enough, and show these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from condition.encoder import encoder as as_encoder
from condition.encoder import vectors
from condition.errors import DataError, ModelError
from condition.models.arguments import check_counts
from condition.models.remote import as_model
from condition.prompts.clusters import clusters
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.prompts.told import Told
from condition.reasoning.answers import Parse, parser_of
from condition.reasoning.best_of import question_of
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.cot import THINKING, TRIGGER, ZeroShotCoT, answer_in
from condition.reasoning.steps import Program, ask
from condition.types import Answer, Example, Sampling


@final
class AutoCoT(Reasoner):
    """Few-shot chain of thought with examples that were written by the model, when the chain is made.

    `questions` are strings, or the prompt's inputs. `encoder` is what `condition.encoder.encoder` takes; None is the
    embedded one. A question of more than `most_words` words is not shown, nor a reasoning of more than `most_lines`
    lines or without an answer: the next one of its cluster is tried. A question is never among its own examples.
    Raises DataError for too few questions, ModelError where no example came out well.
    """

    def __init__(
        self,
        model: Any,
        questions: Sequence[str | Mapping[str, Any]],
        *,
        prompt: Any = "{question}",
        demonstrations: int = 8,
        encoder: Any = None,
        trigger: str = TRIGGER,
        most_words: int = 60,
        most_lines: int = 5,
        parse: Parse | None = None,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        self.model = as_model(model)
        self.prompt = as_prompt(prompt)
        self.parse = parser_of(self.prompt, parse)
        self.sampling = sampling
        self.budget = budget
        check_counts(demonstrations=demonstrations)
        given = self._inputs(questions, demonstrations)
        writer = ZeroShotCoT(self.model, self.prompt, trigger=trigger, parse=self.parse, sampling=sampling)
        texts = [question_of(inputs) for inputs in given]
        groups = clusters(vectors(as_encoder(encoder), texts), demonstrations)
        ordered = [[i for i in group if len(texts[i].split()) <= most_words] for group in groups]
        self.examples = _written(writer, given, ordered, most_lines)
        """What is shown, one of each cluster."""
        self.shots = FewShotPrompt(Told(self.prompt, trigger, " "), self.examples, rationale=True)

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        ((written, *others),) = yield from ask(self.model, [fill(self.shots, inputs)], self.sampling)
        return answer_in(self.parse, written, (written, *others))

    def _inputs(self, questions: Sequence[str | Mapping[str, Any]], least: int) -> list[Inputs]:
        if isinstance(questions, str) or len(questions) < least:
            raise DataError(f"{len(questions)} questions for {least} demonstrations: give a list of at least as many")
        if len(self.variables) != 1 and any(isinstance(question, str) for question in questions):
            raise DataError(f"the prompt reads {sorted(self.variables)}: give a dict with them for each question")
        named = [dict.fromkeys(self.variables, q) if isinstance(q, str) else q for q in questions]
        for place, inputs in enumerate(named):
            if missing := sorted(self.variables - inputs.keys()):
                raise DataError(f"question {place} has no {missing[0]!r}, which the prompt reads")
        return [{name: inputs[name] for name in self.variables} for inputs in named]


def _written(writer: ZeroShotCoT, given: Sequence[Inputs], ordered: list[list[int]], most: int) -> tuple[Example, ...]:
    """An example for each cluster, its first question whose reasoning is good; one call a round for all clusters."""
    found: dict[int, Example] = {}
    answer = Answer("", error="every question is longer than most_words")
    for turn in range(max(map(len, ordered))):
        tried = [c for c, members in enumerate(ordered) if c not in found and turn < len(members)]
        answers = writer.batch([given[ordered[c][turn]] for c in tried])
        for c, answer in zip(tried, answers, strict=True):
            lines = [line for line in (answer.reasoning or "").splitlines() if line.strip()]
            if answer.error is None and 0 < len(lines) <= most:
                found[c] = Example(given[ordered[c][turn]], answer.text, " ".join(map(str.strip, lines)))
    if not found:
        raise ModelError(f"no question got a reasoning of 1 to {most} lines with an answer; the last: {answer.error}")
    return tuple(found[c] for c in sorted(found))
