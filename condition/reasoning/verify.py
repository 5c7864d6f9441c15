"""Verifiers: what tells how good an answer to a question is.

    right = ProgramVerifier(lambda question, answer: eval_expression(answer) == 24)
    liked = JudgeVerifier(model)
    liked("What is the capital of France?", ["Paris", "Lyon"])       # [10.0, 2.0], one call of the model

A verifier is any function of a question and candidates that gives a number for each, higher for better; see
`condition.protocols.Verifier`. One that also has `steps` is asked for all problems at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

from condition.errors import ConditionError, ModelError, SettingsError
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.parse import mark
from condition.prompts.template import as_prompt
from condition.protocols import Chain, Verifier
from condition.reasoning.answers import Parse, parsed
from condition.reasoning.cot import READING
from condition.reasoning.steps import Consult, Program, ask, run, together
from condition.types import Answer, Sampling

JUDGE = (
    "Question: {question}\n\nAnswer: {answer}\n\n"
    "How good is this answer, from 1 (wrong) to 10 (right and complete)? Give the number only."
)


@final
class ProgramVerifier:
    """A function of the question and one answer that gives True, False or a number. One that raises gives 0."""

    def __init__(self, check: Callable[[str, str], bool | float]) -> None:
        self.check = check

    def __call__(self, question: str, candidates: Sequence[str], /) -> list[float]:
        """A number for each candidate."""
        return [self._checked(question, candidate) for candidate in candidates]

    def _checked(self, question: str, candidate: str) -> float:
        try:
            return float(self.check(question, candidate))
        except Exception:  # what a program can't make sense of is no right answer
            return 0.0


@final
class JudgeVerifier:
    """A model that gives marks. `prompt` has the variables question and answer; `parse` finds the mark in its reply.

    A reply without a mark gives 0, which is worse than any of the default prompt's marks.
    """

    def __init__(self, model: Any, prompt: Any = JUDGE, *, parse: Parse = mark, sampling: Sampling = READING) -> None:
        self.model = as_model(model)
        self.prompt = as_prompt(prompt)
        self.parse = parse
        self.sampling = sampling

    def __call__(self, question: str, candidates: Sequence[str], /) -> list[float]:
        """Marks, in one call. Raises ModelError where the model can't be asked."""
        return _now(self.steps(question, candidates))

    def steps(self, question: str, candidates: Sequence[str], /) -> Program[list[float]]:
        """The same as steps, which many problems take together. Raises ModelError where no candidate got a mark."""
        marks = yield from together(self._mark(question, candidate) for candidate in candidates)
        errors = [mark for mark in marks if isinstance(mark, ConditionError)]
        if errors and len(errors) == len(marks):
            raise errors[0]
        return [0.0 if isinstance(mark, ConditionError) else mark for mark in marks]

    def _mark(self, question: str, answer: str) -> Program[float]:
        asked = fill(self.prompt, {"question": question, "answer": answer})
        ((said, *_),) = yield from ask(self.model, [asked], self.sampling, fixed=True)
        return float(parsed(lambda text: float(self.parse(text)), said.text))


@final
class ClassifierVerifier:
    """A classifier of right and wrong answers: the mark is how likely it holds an answer for `right`, from 0 to 1.

    `classifier` is a chain that reads `question` and `answer` and says a label: `calibrate(tuned, prompt, ["right",
    "wrong"])`, or a tuned model behind its prompt. Where its Answer has no probabilities of labels the mark is 1 or 0.
    """

    def __init__(
        self, classifier: Any, right: str = "right", *, question: str = "question", answer: str = "answer"
    ) -> None:
        if not isinstance(classifier, Chain):
            raise SettingsError(f"{type(classifier).__name__} is no chain: it needs invoke(inputs) and batch(inputs)")
        self.classifier = classifier
        self.right = right
        self.question = question
        self.answer = answer

    def __call__(self, question: str, candidates: Sequence[str], /) -> list[float]:
        """Marks, in one call. Raises ModelError where the classifier fails."""
        return _now(self.steps(question, candidates))

    def steps(self, question: str, candidates: Sequence[str], /) -> Program[list[float]]:
        """The same as steps: the answers of all problems are one call of the classifier."""
        replies = yield [Consult(self.classifier, {self.question: question, self.answer: c}) for c in candidates]
        return [self._mark(reply) for reply in replies]

    def _mark(self, reply: Any) -> float:
        if isinstance(reply, ConditionError):
            raise reply
        if not isinstance(reply, Answer) or reply.error is not None:
            raise ModelError(f"the classifier gave no label: {getattr(reply, 'error', type(reply).__name__)}")
        known = {c.text: c.logprob for c in reply.candidates if c.logprob is not None}
        told = known.get(self.right)
        if told is not None and len(known) > 1:
            return math.exp(told)
        return float(reply.text.strip() == self.right)


def _now(program: Program[list[float]]) -> list[float]:
    ((marks, _),) = run([program])
    if isinstance(marks, ConditionError):
        raise marks
    return marks


def verified(verifier: Verifier, question: str, candidates: Sequence[str]) -> Program[list[float]]:
    """What a verifier says to each candidate. Raises ModelError where it fails or gives no number for each."""
    steps = getattr(verifier, "steps", None)
    if callable(steps):
        scores = yield from steps(question, candidates)
    else:
        try:
            scores = list(verifier(question, candidates))
        except ConditionError:
            raise
        except Exception as error:  # a verifier is the user's code
            raise ModelError(f"the verifier failed: {type(error).__name__}: {error}") from error
    try:
        numbers = [float(score) for score in scores]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(candidates) or any(map(math.isnan, numbers)):
        raise ModelError(
            f"the verifier gave {scores!r:.80} for {len(candidates)} candidates: it needs a number for each"
        )
    return numbers
