"""Every implementer of `Chain` through the same checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel, SimpleChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda

import condition as cd
from condition.errors import PromptError, SettingsError
from condition.prompts.calibrate import calibrate
from condition.reasoning.abstain import Abstain
from condition.reasoning.direct import Direct
from condition.testing import check_chain
from condition.types import Completion, Messages, Sampling
from tests.conftest import TinyModel

REPLY = "1. Two and five.\n\nThe answer is 7."
FACTS = {"question": "How many?", "facts": ["The answer is 7.", "Two and five."]}


class Fixed(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, float(len(text))]


def best(question: str, candidates: Sequence[str]) -> list[float]:
    return [1.0 for _ in candidates]


MAKERS: dict[str, Callable[..., Any]] = {
    "ChainOfThought": lambda model, **more: cd.ChainOfThought(model, "{question}", **more),
    "ZeroShotCoT": cd.ZeroShotCoT,
    "AutoCoT": lambda model, **more: cd.AutoCoT(
        cd.as_model(FakeListChatModel(responses=[REPLY])), ["a?", "bb?"], demonstrations=1, encoder=Fixed(), **more
    ),
    "SelfConsistency": lambda model, **more: cd.SelfConsistency(cd.ZeroShotCoT(model), 3, **more),
    "BestOf": lambda model, **more: cd.BestOf(cd.ZeroShotCoT(model), best, 3, **more),
    "BestOf with a judge": lambda model, **more: cd.BestOf(cd.ZeroShotCoT(model), cd.JudgeVerifier(model), 3, **more),
    "LeastToMost": cd.LeastToMost,
    "Decompose": cd.Decompose,
    "SelectionInference": cd.SelectionInference,
    "AskAndExplain": cd.AskAndExplain,
    "AskAndExplain with choices": lambda model, **more: cd.AskAndExplain(model, choices=["7", "8"], **more),
    "TreeOfThoughts": cd.TreeOfThoughts,
    "TreeOfThoughts, depth first": lambda model, **more: cd.TreeOfThoughts(model, search="dfs", **more),
    "Sequence": lambda model, **more: cd.Sequence(
        {"a": cd.ZeroShotCoT(model), "b": cd.ChainOfThought(model, "{a}")}, **more
    ),
    "Parallel": lambda model, **more: cd.Parallel({"a": cd.ZeroShotCoT(model), "b": cd.LeastToMost(model)}, **more),
}


class Poisoned(SimpleChatModel):
    """Says nothing to whoever speaks of poison, and the same to everybody else."""

    @property
    def _llm_type(self) -> str:
        return "poisoned"

    def _call(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> str:
        if any("poison" in str(message.content) for message in messages):
            raise ValueError("no word of poison")
        return REPLY


class Off:
    """A model that is always off."""

    name = "off"

    def generate(self, prompts: Sequence[Messages], sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
        raise ConnectionError("the line is dead")


class Counted:
    """Says the same to everything, and counts."""

    name = "counted"

    def __init__(self) -> None:
        self.calls = 0
        self.drawn = 0

    def generate(
        self, prompts: Sequence[Messages], sampling: Sampling = Sampling(), *, control: Any = None
    ) -> list[list[Completion]]:
        self.calls += 1
        self.drawn += sampling.n * len(prompts)
        return [[Completion(REPLY)] * sampling.n for _ in prompts]


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return MAKERS[request.param]


def test_every_chain(make: Callable[..., Any]) -> None:
    check_chain(make(Counted()), [FACTS, {**FACTS, "question": "And how many {more}? 🙂"}])


@pytest.mark.parametrize("name", MAKERS)
def test_a_problem_fails_alone(name: str) -> None:
    make = MAKERS[name] if name != "AutoCoT" else _auto_cot
    check_chain(make(Poisoned()), [FACTS], failing={"question": "What is poison?", "facts": ["It is poison."]})


def _auto_cot(model: Any) -> Any:
    return cd.AutoCoT(model, ["a?", "bb?"], demonstrations=1, encoder=Fixed())


OTHERS: dict[str, Callable[[TinyModel], Any]] = {
    "LocalModel with a prompt": lambda tiny_model: tiny_model().with_prompt("Say {question}"),
    "calibrate": lambda tiny_model: calibrate(tiny_model(), "{question}", ["yes", "no"]),
    "Abstain": lambda tiny_model: Abstain(tiny_model(), "{question}", max_tokens=4),
    "Guarded": lambda tiny_model: cd.Guarded(cd.ZeroShotCoT(Counted()), before=cd.WordList(["zounds"])),
    "Direct": lambda tiny_model: Direct(RunnableLambda(lambda inputs: str(inputs["question"])), ["question"]),
    "a RunnableLambda": lambda tiny_model: RunnableLambda(lambda inputs: cd.Answer(str(inputs["question"]))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_chains_that_are_made_of_no_steps(name: str, tiny_model: TinyModel) -> None:
    check_chain(OTHERS[name](tiny_model), [{"question": "How many?"}, {"question": "Is the sky {blue}? 🙂"}])


def test_is_a_runnable(make: Callable[..., Any]) -> None:
    chain = make(Counted())
    assert isinstance(chain, Runnable)
    assert chain.variables <= FACTS.keys()


def test_many_problems_cost_no_more_calls_than_one(make: Callable[..., Any]) -> None:
    one, many = Counted(), Counted()
    single = make(one).invoke(FACTS)
    answers = make(many).batch([FACTS] * 20)
    assert [a.text for a in answers] == [single.text] * 20
    assert (many.calls, many.drawn) == (one.calls, 20 * one.drawn)


def test_a_langchain_model_will_do(make: Callable[..., Any]) -> None:
    answer = make(FakeListChatModel(responses=[REPLY])).invoke(FACTS)
    assert isinstance(answer, cd.Answer)
    assert answer.text or answer.error


def test_in_a_pipe_and_async(make: Callable[..., Any]) -> None:
    chain = make(Counted())
    answer = chain.invoke(FACTS)

    async def both() -> tuple[Any, Any]:
        return await chain.ainvoke(FACTS), await chain.abatch([FACTS, FACTS])

    assert asyncio.run(both()) == (answer, [answer, answer])
    pipe = RunnableLambda(lambda number: FACTS) | chain | RunnableLambda(lambda found: found.text)
    assert pipe.batch([1, 2]) == [answer.text] * 2


def test_what_is_missing_is_said_first(make: Callable[..., Any]) -> None:
    model = Counted()
    chain = make(model)
    with pytest.raises(PromptError, match="input 1: no value for"):
        chain.batch([FACTS, {}])
    assert model.calls == 0


def test_a_dead_model_is_an_answer_with_an_error(make: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    if "AutoCoT" in request.node.name:
        pytest.skip("asks its model when it is made")
    answers = make(Off()).batch([FACTS, FACTS])
    assert len(answers) == 2
    for answer in answers:
        assert answer.text == ""
        assert "the line is dead" in str(answer.error)


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_a_budget_is_kept(make: Callable[..., Any], calls: int) -> None:
    model = Counted()
    answer = make(model, budget=cd.Budget(calls=calls)).invoke(FACTS)
    assert model.drawn <= calls
    assert isinstance(answer, cd.Answer)


def test_answers_are_values(make: Callable[..., Any]) -> None:
    answer = make(Counted()).invoke(FACTS)
    assert cd.Answer(**answer.model_dump()).text == answer.text


def test_no_model_is_no_chain(make: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    if "AutoCoT" in request.node.name:
        pytest.skip("has a model of its own here")
    with pytest.raises((SettingsError, cd.ModelError)):
        make(5)
