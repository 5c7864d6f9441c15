"""Chains that break a promise are caught, LangChain's runnables among them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from condition.testing import check_chain
from condition.types import Answer
from tests.testing.conftest import catch

POISON = {"question": "poison"}


class Echo:
    """A chain that says its question, and can't stand poison."""

    variables = frozenset({"question"})

    def invoke(self, inputs: Any, /) -> Any:
        return self.batch([inputs])[0]

    def batch(self, inputs: Any, /) -> Any:
        return [self.one(one) for one in inputs]

    def one(self, inputs: Any) -> Any:
        asked = inputs["question"]
        return Answer("", error="no poison") if "poison" in asked else Answer(asked)


class Greedy(Echo):
    def batch(self, inputs: Any, /) -> Any:
        return [self.one(inputs[0]), *map(self.one, inputs[1:])]


class Turned(Echo):
    def batch(self, inputs: Any, /) -> Any:
        return super().batch(inputs)[::-1]


class Sparing(Echo):
    def batch(self, inputs: Any, /) -> Any:
        return [*{answer.text: answer for answer in super().batch(inputs)}.values()][:1]


class Eating(Echo):
    def one(self, inputs: Any) -> Any:
        return Answer(inputs.pop("question"))


class Curious(Echo):
    def one(self, inputs: Any) -> Any:
        return Answer(str(sorted(inputs)))


class Counting(Echo):
    said = 0

    def one(self, inputs: Any) -> Any:
        self.said += 1
        return Answer(f"{inputs['question']} {self.said}")


class Guessing(Echo):
    def one(self, inputs: Any) -> Any:
        return Answer(inputs.get("question", "what?"))


class Brittle(Echo):
    def one(self, inputs: Any) -> Any:
        if "poison" in inputs["question"]:
            raise RuntimeError("dead")
        return super().one(inputs)


class Contagious(Echo):
    def batch(self, inputs: Any, /) -> Any:
        answers = super().batch(inputs)
        failed = any(answer.error for answer in answers)
        return [Answer("", error="one failed")] * len(answers) if failed else answers


class Hushed(Echo):
    def one(self, inputs: Any) -> Any:
        return Answer(inputs["question"])


class Never(Echo):
    """Answers nobody too."""

    def batch(self, inputs: Any, /) -> Any:
        return super().batch(inputs) or None


class Bare(Echo):
    def invoke(self, inputs: Any, /) -> Any:
        return super().invoke(inputs).text


class Apart(Echo):
    """Only one by one it raises."""

    def invoke(self, inputs: Any, /) -> Any:
        if "poison" in inputs["question"]:
            raise RuntimeError("dead")
        return super().invoke(inputs)


class Denying(Echo):
    """Only one by one it says nothing of an error."""

    def invoke(self, inputs: Any, /) -> Any:
        return Answer(inputs["question"])


class Dropping(Echo):
    """Leaves out what failed."""

    def batch(self, inputs: Any, /) -> Any:
        return [answer for answer in super().batch(inputs) if not answer.error]


class Raised(Echo):
    """Hands back what was raised."""

    def batch(self, inputs: Any, /) -> Any:
        return [ValueError(answer.error) if answer.error else answer for answer in super().batch(inputs)]


class Vague(Echo):
    def one(self, inputs: Any) -> Any:
        if "question" not in inputs:
            raise ValueError("something is missing")
        return super().one(inputs)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "Chain object: it has batch, invoke. Seen: object without batch, invoke"),
        (Echo, "it is an object, not its class"),
        (Greedy(), "batch takes an empty list. Seen: IndexError"),
        (Never(), "batch gives [] for no problems. Seen: NoneType instead of a list"),
        (Bare(), "invoke gives an Answer. Seen: str"),
        (Apart(), "invoke gives an Answer for a problem that fails too. Seen: RuntimeError: dead"),
        (Denying(), "by invoke"),
        (Dropping(), "the others go on. Seen: 4 for 5 problems"),
        (Raised(), "the others go on. Seen: ValueError"),
        (Vague(), "refused by an error that names it. Seen: ValueError: something is missing"),
        (Turned(), "batch says what invoke says, in the order of the problems"),
        (Sparing(), "one Answer for each problem. Seen: 1 for 2 problems"),
        (Eating(), "it changes nothing of what it is given"),
        (Curious(), "inputs that it does not use change nothing"),
        (Counting(), "batch says what invoke says"),
        (Brittle(), "a problem that fails is an Answer with an error, and the others go on. Seen: RuntimeError: dead"),
        (Contagious(), "a problem that fails is an Answer with an error, and the others go on"),
        (Hushed(), "Answer(text='poison'"),
        (RunnableLambda(lambda inputs: inputs["question"]), "batch gives Answers. Seen: str"),
        (RunnableLambda(lambda inputs: Answer(inputs["text"])), "batch answers problems. Seen: KeyError: 'text'"),
        (RunnableLambda(Brittle().one), "the others go on. Seen: RuntimeError: dead"),
    ],
)
def test_a_chain_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_chain, block, failing=POISON)


def test_a_chain_that_guesses_what_is_missing() -> None:
    catch("inputs without 'question' are refused by an error that names it. Seen: no error", check_chain, Guessing())


def test_whole_chains() -> None:
    check_chain(Echo(), failing=POISON)
    check_chain(Counting(), repeatable=False)
    check_chain(RunnableLambda(Echo().one), [{"question": "a"}, {"question": "b"}], failing=POISON)
