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
from condition.reasoning.answers import Parse, number_in, parser_of
from condition.reasoning.cot import READING
from condition.reasoning.steps import Consult, Program, ask, run, together
from condition.types import Answer, Sampling

JUDGE = (
    "Question: {question}\n\nAnswer: {answer}\n\n"
    "How good is this answer, from 1 (wrong) to 10 (right and complete)? Give the number only."
)


@final
class ProgramVerifier:
    """A function of the question and one answer that gives True, False or a number.

    An answer for which it raises, or gives "not a number", gets less than any other, minus infinity. Raises ModelError
    where that is all of them: then it is rather the program that is wrong.
    """

    def __init__(self, check: Callable[[str, str], bool | float]) -> None:
        self.check = check

    def __call__(self, question: str, candidates: Sequence[str], /) -> list[float]:
        """A number for each candidate."""
        found = [self._checked(question, candidate) for candidate in candidates]
        failed = [one for one in found if isinstance(one, str)]
        if failed and len(failed) == len(found):
            raise ModelError(f"the check has no number for any of {len(found)} answers; the first: {failed[0]}")
        return [-math.inf if isinstance(one, str) else one for one in found]

    def _checked(self, question: str, candidate: str) -> float | str:
        """The number, or why there is none."""
        try:
            number = float(self.check(question, candidate))
        except Exception as error:  # what a program can't make sense of is no right answer
            return f"{type(error).__name__}: {error}"
        return "not a number" if math.isnan(number) else number


@final
class JudgeVerifier:
    """A model that gives marks. `prompt` has the variables question and answer; `parse`, by default the prompt's own,
    else `condition.prompts.parse.mark`, finds the mark in its reply.

    A reply without a mark gives 0, which is worse than any of the default prompt's marks.
    """

    def __init__(
        self, model: Any, prompt: Any = JUDGE, *, parse: Parse | None = None, sampling: Sampling = READING
    ) -> None:
        self.model = as_model(model)
        self.prompt = as_prompt(prompt)
        self.parse = parser_of(self.prompt, parse, mark)
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
        return number_in(self.parse, said.text)


@final
class ClassifierVerifier:
    """A classifier of right and wrong answers: the mark is how likely it holds an answer for `right`, from 0 to 1.

    `classifier` is a chain that reads `question` and `answer` and says a label: `calibrate(tuned, prompt, ["right",
    "wrong"])`, or a tuned model behind its prompt. Where its Answer has no probabilities of labels the mark is 1 or 0.
    Raises SettingsError for a label that the classifier does not have.
    """

    def __init__(
        self, classifier: Any, right: str = "right", *, question: str = "question", answer: str = "answer"
    ) -> None:
        if not isinstance(classifier, Chain):
            raise SettingsError(f"{type(classifier).__name__} is no chain: it needs invoke(inputs) and batch(inputs)")
        labels = getattr(classifier, "labels", None)
        if isinstance(labels, tuple | list) and right not in labels:
            raise SettingsError(f"right={right!r} is none of the classifier's labels {', '.join(map(repr, labels))}")
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
        known = {c.text: math.exp(c.logprob) for c in reply.candidates if c.logprob is not None}
        if len(known) > 1 and abs(sum(known.values()) - 1) < 1e-3:  # else they are samples, not all the labels
            if self.right not in known:
                raise ModelError(f"right={self.right!r} is none of the labels {', '.join(map(repr, known))}")
            return known[self.right]
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
