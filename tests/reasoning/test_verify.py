from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.runnables import RunnableLambda

from condition.errors import ModelError, SettingsError
from condition.prompts.calibrate import calibrate
from condition.prompts.template import ChatPrompt
from condition.protocols import Verifier
from condition.reasoning.best_of import BestOf
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.self_consistency import SelfConsistency
from condition.reasoning.steps import run
from condition.reasoning.verify import ClassifierVerifier, JudgeVerifier, ProgramVerifier, verified
from condition.types import Answer, Completion

if TYPE_CHECKING:
    from condition.models.local import LocalModel
    from tests.reasoning.conftest import Oracle


def marks(text: str) -> str:
    answer = text.split("Answer: ")[1].split("\n")[0]
    return {"Paris": "10", "Lyon": "I give it 2 of... 2"}.get(answer, "a good one")


def test_a_judge_marks_all_candidates_in_one_call(oracle: type[Oracle]) -> None:
    model = oracle(marks)
    judge = JudgeVerifier(model)
    assert isinstance(judge, Verifier)
    assert judge("What is the capital of France?", ["Lyon", "Paris", "Nice"]) == [2, 10, 0]
    assert (model.calls, len(model.prompts)) == (1, 3)
    with pytest.raises(ModelError, match="no number"):
        judge("What is the capital of France?", ["Nice"])


def test_a_mark_that_is_no_number_is_none(oracle: type[Oracle]) -> None:
    judge = JudgeVerifier(oracle(marks), parse=lambda text: text if "good" in text else 5)
    assert judge("q", ["Paris", "Nice"]) == [5, 0]


def test_a_program_checks() -> None:
    check = ProgramVerifier(lambda question, answer: int(answer) % 2 == 0)
    assert isinstance(check, Verifier)
    assert check("An even number?", ["3", "4", "x"]) == [0, 1, -math.inf]
    assert check("An even number?", []) == []


def test_what_a_program_makes_no_sense_of_is_worse_than_what_is_wrong(oracle: type[Oracle]) -> None:
    """0 was more than any mark that counts how far an answer is off."""
    near = ProgramVerifier(lambda question, answer: float("nan") if answer == "nan" else -abs(24 - float(answer)))
    assert near("Make 24.", ["20", "many", "nan"]) == [-4, -math.inf, -math.inf]
    chain = ChainOfThought(oracle(lambda text: ["many", "20", "nan"]), "{q}", parse=str.strip)
    answer = BestOf(chain, near, 3).invoke("x")
    assert (answer.text, answer.score, answer.error) == ("20", -4, None)


def test_a_program_that_never_works_is_said_to_be_wrong(oracle: type[Oracle]) -> None:
    broken = ProgramVerifier(lambda question, answer: unknown(answer))  # type: ignore[name-defined] # noqa: F821
    with pytest.raises(ModelError, match=r"no number for any of 2 answers; the first: NameError: .*unknown"):
        broken("q", ["a", "b"])
    answer = BestOf(ChainOfThought(oracle(lambda text: ["a", "b"]), "{q}", parse=str.strip), broken, 2).invoke("x")
    assert (answer.text, answer.score) == ("a", None)
    assert "NameError" in str(answer.error)


@pytest.mark.parametrize("wrong", [[1.0], [1.0, float("nan")], ["good", "bad"]])
def test_a_number_for_each_candidate(wrong: list[float]) -> None:
    ((error, _),) = run([verified(lambda q, c: wrong, "q", ["a", "b"])])
    assert isinstance(error, ModelError)
    assert "it needs a number for each" in str(error)


def test_a_verifier_that_breaks() -> None:
    ((error, _),) = run([verified(lambda q, c: [1 / 0], "q", ["a"])])
    assert "the verifier failed: ZeroDivisionError" in str(error)


@pytest.mark.parametrize(("said", "value"), [("8/10", 8), ("I would say 7 out of 10.", 7), ("10", 10)])
def test_a_mark_is_read_without_its_scale(oracle: type[Oracle], said: str, value: float) -> None:
    assert JudgeVerifier(oracle(lambda text: said))("q", ["a"]) == [value]


def test_numbers_of_other_kinds_and_attributes_of_other_meanings() -> None:
    class Reward:
        steps = 300  # of its training

        def __call__(self, question: str, candidates: Sequence[str], /) -> Any:
            return np.array([0.5, 0.25], dtype=np.float32)

    ((marks, _),) = run([verified(Reward(), "q", ["a", "b"])])
    assert marks == [0.5, 0.25]


def rated(inputs: Mapping[str, str]) -> Answer:
    p = 0.9 if inputs["answer"] == "Paris" else 0.2
    labels = [Completion("right", logprob=math.log(p)), Completion("wrong", logprob=math.log(1 - p))]
    return Answer(max(labels, key=lambda c: c.logprob or 0.0).text, candidates=tuple(labels))


def test_a_classifier_says_how_likely_an_answer_is_right(oracle: type[Oracle]) -> None:
    sizes: list[int] = []

    class Classifier:
        def invoke(self, inputs: Mapping[str, str], /) -> Answer:
            return rated(inputs)

        def batch(self, inputs: Sequence[Mapping[str, str]], /) -> list[Answer]:
            sizes.append(len(inputs))
            return [rated(one) for one in inputs]

    verifier = ClassifierVerifier(Classifier())
    assert isinstance(verifier, Verifier)
    assert verifier("Which?", ["Lyon", "Paris"]) == pytest.approx([0.2, 0.9])
    assert ClassifierVerifier(Classifier(), "wrong")("Which?", ["Paris"]) == pytest.approx([0.1])
    assert sizes == [2, 1]
    writer = oracle(lambda text: ["Lyon", "Paris", "Nice"])
    answers = BestOf(ChainOfThought(writer, "{question}"), verifier, 3).batch([f"{i}?" for i in range(5)])
    assert {a.text for a in answers} == {"Paris"}
    assert sizes == [2, 1, 15]  # all candidates of all problems


def test_a_label_that_the_classifier_does_not_have_is_refused(oracle: type[Oracle]) -> None:
    """Every answer had the mark 0, and the first was the best."""
    told: Any = RunnableLambda(rated)
    with pytest.raises(ModelError, match="right='yes' is none of the labels 'right', 'wrong'"):
        ClassifierVerifier(told, "yes")("q", ["Paris"])

    class Labelled:
        labels = ("yes", "no")
        invoke = batch = staticmethod(rated)

    with pytest.raises(SettingsError, match="right='right' is none of the classifier's labels 'yes', 'no'"):
        ClassifierVerifier(Labelled())
    ClassifierVerifier(Labelled(), "yes")


def test_samples_are_no_probabilities_of_labels(oracle: type[Oracle]) -> None:
    votes = SelfConsistency(
        ChainOfThought(oracle(lambda text: ["right", "wrong", "wrong"]), "{question} {answer}", parse=str.strip), 3
    )
    assert ClassifierVerifier(votes)("q", ["Paris"]) == [0]  # "right" has its log-probability, and one vote of three


def test_a_judges_prompt_may_have_its_own_parser(oracle: type[Oracle]) -> None:
    prompt = ChatPrompt([("user", "{question} {answer}")], parse=lambda text: len(text))
    judge = JudgeVerifier(oracle(lambda text: "ab"), prompt)
    assert judge("q", ["x"]) == [2]
    assert JudgeVerifier(oracle(lambda text: "ab"), prompt, parse=lambda text: 5)("q", ["x"]) == [5]


def test_a_classifier_that_says_a_label_only() -> None:
    told: Any = RunnableLambda(lambda inputs: Answer("right" if inputs["a"] == "x" else "wrong"))
    assert ClassifierVerifier(told, answer="a")("q", ["x", "y"]) == [1, 0]
    broken: Any = RunnableLambda(lambda inputs: Answer("", error="too long"))
    with pytest.raises(ModelError, match="no label: too long"):
        ClassifierVerifier(broken)("q", ["x"])
    with pytest.raises(SettingsError, match="str is no chain"):
        ClassifierVerifier("right or wrong?")


@pytest.mark.real
def test_a_label_classifier_verifies(embedded: LocalModel) -> None:
    prompt = "Question: {question}\nAnswer: {answer}\nIs this answer right? Say yes or no."
    verifier = ClassifierVerifier(calibrate(embedded, prompt, ["yes", "no"]), "yes")
    marks = verifier("What is the capital of France?", ["Paris", "a banana"])
    assert all(0 < mark < 1 for mark in marks)
    assert marks[0] > marks[1]
