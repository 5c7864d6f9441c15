from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda

from condition.errors import SettingsError
from condition.reasoning.budget import Budget
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.direct import Direct
from condition.reasoning.joined import Parallel, Sequence
from condition.reasoning.self_consistency import SelfConsistency

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle


def echo(text: str) -> str:
    if "refuse" in text:
        raise RuntimeError("refused")
    return f"<{text}>"


@pytest.fixture
def chain(oracle: type[Oracle]) -> Any:
    """`chain("{a} and {b}")` puts what it reads into brackets."""
    model = oracle(echo)

    def make(prompt: str) -> ChainOfThought:
        return ChainOfThought(model, prompt, parse=str.strip)

    make.model = model  # type: ignore[attr-defined]
    return make


def test_values_go_on_by_name(chain: Any) -> None:
    joined = Sequence({"facts": chain("about {who}"), "poem": chain("{facts} for {reader}")})
    assert joined.variables == {"who", "reader"}
    answers = joined.batch([{"who": name, "reader": "me"} for name in ("Ada", "Tom", "Ida")])
    assert [a.text for a in answers] == [f"<<about {name}> for me>" for name in ("Ada", "Tom", "Ida")]
    assert answers[0].parsed == {"facts": "<about Ada>", "poem": "<<about Ada> for me>"}
    assert (chain.model.calls, len(chain.model.prompts)) == (2, 6)
    assert answers[0].usage.output_tokens == 2 + 4


def test_side_by_side_is_one_call(chain: Any) -> None:
    both = Parallel({"short": chain("short {x}"), "long": chain("long {x}")})
    answers = both.batch([{"x": "a"}, {"x": "b"}])
    assert answers[1].text == "short: <short b>\nlong: <long b>"
    assert answers[1].parsed["long"] == "<long b>"
    assert (chain.model.calls, len(chain.model.prompts)) == (1, 4)


def test_a_parallel_inside_a_sequence_gives_its_names(chain: Any) -> None:
    views = Parallel({"pro": chain("for {x}"), "con": chain("against {x}")})
    joined = Sequence({"views": views, "verdict": chain("{pro} or {con}")}, inputs=["x"])
    assert joined.invoke({"x": "tea"}).text == "<<for tea> or <against tea>>"
    whole = Sequence({"views": views, "verdict": chain("{views}!")})
    assert whole.invoke({"x": "tea"}).text == "<pro: <for tea>\ncon: <against tea>!>"
    assert Sequence({"one": joined, "two": chain("{one}")}).variables == {"x"}


def test_one_that_fails_stops_its_own_problem_only(chain: Any) -> None:
    joined = Sequence({"facts": chain("about {who}"), "poem": chain("{facts}")})
    good, bad = joined.batch([{"who": "Ada"}, {"who": "refuse"}])
    assert good.text == "<<about Ada>>"
    assert (bad.text, bad.parsed) == ("", {"facts": ""})
    assert "facts: RuntimeError: refused" in str(bad.error)
    half = Parallel({"a": chain("{x}"), "b": chain("refuse {x}")}).invoke({"x": "1"})
    assert (half.text, half.parsed) == ("a: <1>", {"a": "<1>", "b": ""})
    assert "b: RuntimeError" in str(half.error)
    cut = Sequence({"a": chain("{x}"), "b": chain("{a}")}, budget=Budget(calls=1)).invoke({"x": "1"})
    assert cut.parsed == {"a": "<1>", "b": ""}
    assert "b: over budget" in str(cut.error)


@pytest.mark.parametrize(
    ("prompts", "inputs", "what"),
    [
        ({"a": "{x}", "b": "{a} {c}"}, ["x"], "'b' reads 'c', which nobody gives or makes; there are 'a', 'x'"),
        ({"facts": "{x}", "b": "{fact}"}, ["x"], "nobody reads 'facts'; did you mean it where 'fact'"),
        ({"facts": "{x}", "b": "{fact}"}, None, "nobody reads 'facts'; did you mean it where 'fact' is read"),
        ({"a": "{x}", "b": "{x}"}, None, "nobody reads 'a'; leave it out"),
        ({"a": "{b}", "b": "{x}"}, None, "'a' reads 'b', which is made only later"),
        ({"a": "{a}", "b": "{a}"}, None, "'a' reads 'a', which is made only later"),
        ({"x": "{y}", "b": "{x}"}, ["x", "y"], "'x' is the name of an input or of another chain"),
        ({"x": "{y}", "b": "{x}", "y": "{b}"}, None, "'x' reads 'y', which is made only later"),
    ],
)
def test_names_are_checked_when_chains_are_joined(chain: Any, prompts: Any, inputs: Any, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        Sequence({name: chain(prompt) for name, prompt in prompts.items()}, inputs=inputs)
    assert chain.model.calls == 0


def test_a_langchain_pipeline_says_what_it_reads(chain: Any) -> None:
    asked = ChatPromptTemplate([("system", "{tone}"), MessagesPlaceholder("said", optional=True), ("human", "{x}")])
    pipe = asked | FakeListChatModel(responses=["five"])
    joined = Sequence({"a": pipe, "b": chain("{a}")})
    assert joined.variables == {"tone", "x"}
    assert joined.invoke({"tone": "calm", "x": 5}).text == "<five>"
    with pytest.raises(SettingsError, match="'a' reads 'tone', which nobody gives or makes"):
        Sequence({"a": pipe, "b": chain("{a}")}, inputs=["x"])


def test_what_is_no_chain_or_reads_nobody_knows_what(chain: Any) -> None:
    foreign = RunnableLambda(lambda inputs: f"[{inputs['x']}]")
    with pytest.raises(SettingsError, match=r"nobody says which inputs 'a' reads: give Direct\(chain"):
        Sequence({"a": foreign, "b": chain("{a}")})
    joined = Sequence({"a": Direct(foreign, ["x"]), "b": chain("{a}")})
    assert joined.invoke({"x": 5}).text == "<[5]>"
    with pytest.raises(SettingsError, match="give the chains by name"):
        Parallel([chain("{x}")])  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="'b' reads 'y'"):
        Parallel({"a": chain("{x}"), "b": chain("{y}")}, inputs=["x"])
    with pytest.raises(SettingsError, match="is no chain"):
        Sequence({"a": "{x}"})


def test_techniques_nest(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: ["one", "two", "two"] if "count" in text else f"so {text}")
    count = SelfConsistency(ChainOfThought(model, "count {x}"), 3)
    joined = Sequence({"count": count, "say": ChainOfThought(model, "{count}!")})
    assert [a.text for a in joined.batch(["cats", "dogs"])] == ["so two!"] * 2
    assert [s.n for s in model.samplings] == [2, 1, 1]
