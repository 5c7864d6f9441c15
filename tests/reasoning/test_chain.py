from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableParallel, RunnablePassthrough

from condition.errors import Interrupted, ModelError, PromptError
from condition.protocols import Chain
from condition.reasoning.chain import Reasoner
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.steps import Program, ask
from condition.types import Answer, Message, Usage

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle


class Twice(Reasoner):
    """A technique of somebody else's."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"x"})

    def steps(self, inputs: Mapping[str, Any], /) -> Program[Answer]:
        said = str(inputs["x"])
        for _ in range(2):
            ((found, *_),) = yield from ask(self.model, [(Message("user", said),)])
            said = found.text
        return Answer(said)


def doubled(text: str) -> str:
    if text == "ccc":
        raise KeyboardInterrupt
    if text == "bad":
        raise RuntimeError("refused")
    return text * 2


@pytest.mark.parametrize("one", ["ab", {"x": "ab"}])
def test_one_input_is_not_asked_by_its_letters_or_names(oracle: type[Oracle], one: Any) -> None:
    with pytest.raises(PromptError, match="batch takes a list of inputs"):
        Twice(oracle(doubled)).batch(one)


def test_a_technique_is_its_steps(oracle: type[Oracle]) -> None:
    model = oracle(doubled)
    chain = Twice(model)
    assert isinstance(chain, Chain)
    good, bad = chain.batch([{"x": "a"}, {"x": "bad"}])
    assert (good.text, good.usage.output_tokens) == ("aaaa", 2)
    assert (bad.text, bad.error) == ("", "RuntimeError: refused")
    assert chain.invoke("b").text == "bbbb"
    assert chain.get_name() == "Twice"
    assert repr(chain) == "<Twice of x>"
    assert chain.get_output_schema().model_json_schema()
    assert chain.get_graph().draw_mermaid()


def test_more_inputs_than_it_reads_go_through(oracle: type[Oracle]) -> None:
    chain = RunnablePassthrough.assign(answer=Twice(oracle(doubled)))
    assert chain.invoke({"x": "a", "id": 5}) == {"x": "a", "id": 5, "answer": Answer("aaaa", usage=_usage(2))}
    both = RunnableParallel(one=Twice(oracle(doubled)), two=Twice(oracle(doubled)))
    assert both.invoke({"x": "a"})["two"].text == "aaaa"


def _usage(tokens: int) -> Any:
    return Usage(input_tokens=tokens, output_tokens=tokens)


def test_return_exceptions_is_langchains(oracle: type[Oracle]) -> None:
    found: Any = Twice(oracle(doubled)).batch([{"y": 1}], return_exceptions=True)
    assert isinstance(found[0], PromptError)


def test_ctrl_c_keeps_answers(oracle: type[Oracle]) -> None:
    with pytest.raises(Interrupted) as stop:
        Twice(oracle(doubled)).batch([{"x": "a"}, {"x": "ccc"}])
    assert stop.value.total == 2


def test_a_steps_bug_is_not_an_answer(oracle: type[Oracle]) -> None:
    class Broken(Twice):
        def steps(self, inputs: Mapping[str, Any], /) -> Program[Answer]:
            yield from ask(self.model, [])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Broken(oracle(doubled)).invoke("a")

    class Failing(Twice):
        def steps(self, inputs: Mapping[str, Any], /) -> Program[Answer]:
            yield from ask(self.model, [])
            raise ModelError("no way")

    assert Failing(oracle(doubled)).invoke("a").error == "no way"


@pytest.mark.parametrize(("setting", "advice"), [("budget", r"give Budget\("), ("sampling", r"give Sampling\(")])
@pytest.mark.parametrize("wrong", [5, {"calls": 3}, "few"])
def test_a_setting_of_another_kind_is_named(oracle: type[Oracle], setting: str, advice: str, wrong: Any) -> None:
    model = oracle(lambda text: "7")
    answer = ChainOfThought(model, "{q}", **{setting: wrong}).invoke("x")
    assert re.search(f"{setting}=.*{advice}", str(answer.error))
    assert not model.prompts
