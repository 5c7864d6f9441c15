"""The text model. LangChain has standard tests for chat models only; these ask the same of an LLM."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.prompts import PromptTemplate

from condition.control.grammar import Choice
from condition.errors import ModelError, SettingsError
from condition.integrations.llm import ConditionLLM
from condition.models.local import LocalModel
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.types import Message, Sampling
from tests.conftest import TinyModel
from tests.integrations.test_langchain import Listener
from tests.integrations.test_waiting import calls as calls

PROMPTS: list[Any] = ["The sky is", "When was the bridge", "Bread needs flour, water"]


@pytest.fixture
def llm(tiny_model: TinyModel) -> ConditionLLM:
    return ConditionLLM(tiny_model(), max_tokens=5)


def text(words: str) -> tuple[Message, ...]:
    return (Message("text", words),)


def test_a_string_is_text_that_no_template_touches(llm: ConditionLLM) -> None:
    [[completion]] = llm.model.generate([text("The sky is")], Sampling(max_tokens=5))
    assert llm.invoke("The sky is") == completion.text
    chain = PromptTemplate.from_template("The {what} is") | llm
    assert chain.invoke({"what": "sky"}) == completion.text


def test_a_model_that_knows_turns_only_is_asked_in_turns(llm: ConditionLLM) -> None:
    def read(prompt: Any, **settings: Any) -> Any:
        own = ConditionLLM(llm.model.with_prompt(prompt), **settings)
        return own._said("x", own._call(None, {}))

    assert read(ChatPrompt([("user", "{q}")])) == (Message("user", "x"),)
    assert read(ChatPrompt([("user", "{q}")]), chat=False) == text("x")
    assert read(TextPrompt("{q}")) == text("x")
    assert read(TextPrompt("{q}"), chat=True) == (Message("user", "x"),)


def test_many_are_one_call_and_say_the_same(llm: ConditionLLM, calls: list[int]) -> None:
    alone = [llm.invoke(prompt) for prompt in PROMPTS]
    calls.clear()
    assert llm.batch(PROMPTS) == alone
    assert [row[0].text for row in llm.generate(PROMPTS).generations] == alone
    assert asyncio.run(llm.abatch(PROMPTS)) == alone

    async def together() -> list[str]:
        return await asyncio.gather(*(llm.ainvoke(prompt) for prompt in PROMPTS))

    assert asyncio.run(together()) == alone
    assert asyncio.run(llm.agenerate(PROMPTS)).generations[2][0].text == alone[2]
    assert calls == [3] * 5
    calls.clear()
    assert llm.batch(PROMPTS, {"max_concurrency": 2}) == alone
    assert calls == [2, 1]


def test_a_stream_joined_is_what_invoke_says(llm: ConditionLLM) -> None:
    async def pieces() -> list[str]:
        return [piece async for piece in llm.astream("The sky is")]

    heard = Listener()
    whole = llm.invoke("The sky is")
    assert "".join(llm.stream("The sky is", {"callbacks": [heard]})) == whole
    assert "".join(heard.tokens) == whole
    assert heard.ends == [whole]
    assert "".join(asyncio.run(pieces())) == whole


def test_stop_n_and_settings_of_a_call(llm: ConditionLLM) -> None:
    whole = llm.invoke("The sky is")
    assert llm.invoke("The sky is", stop=[whole[2:4]]) == whole[:2]
    assert llm.bind(stop=[whole[2:4]]).invoke("The sky is") == whole[:2]
    (samples,) = llm.generate(["The sky is"], n=3, temperature=2.0, seed=1).generations
    assert len({sample.text for sample in samples}) == 3
    assert llm.invoke("The sky is", control=Choice(["blue", "green"])) in ("blue", "green")
    assert llm.max_tokens == 5  # its own settings stay


def test_what_is_told_of_a_text(llm: ConditionLLM) -> None:
    [[completion]] = llm.model.generate([text("The sky is")], Sampling(max_tokens=5))
    (row,) = llm.generate(["The sky is"], logprobs=True).generations
    told = row[0].generation_info
    assert told is not None
    assert told["finish_reason"] == "length"
    assert told["logprob"] == pytest.approx(completion.logprob, abs=1e-4)
    each = told["logprobs"]["content"]
    assert [one["token_id"] for one in each] == list(completion.token_ids)
    assert sum(one["logprob"] for one in each) == pytest.approx(completion.logprob, abs=1e-4)
    assert told["usage_metadata"]["output_tokens"] == 5
    assert "logprobs" not in (llm.generate(["The sky is"]).generations[0][0].generation_info or {})


def test_a_cache_knows_the_settings_of_a_call(tiny_model: TinyModel, calls: list[int]) -> None:
    """LangChain's own key for LLMs leaves them out."""
    llm = ConditionLLM(tiny_model(), max_tokens=5, cache=InMemoryCache())
    whole = llm.invoke("The sky is")
    assert llm.invoke("The sky is") == whole
    assert calls == [1]
    assert whole.startswith(llm.invoke("The sky is", max_tokens=2))
    assert calls == [1, 1]
    assert asyncio.run(llm.ainvoke("The sky is", max_tokens=2)) != whole
    assert calls == [1, 1]


def test_each_has_its_own_error_and_callbacks(llm: ConditionLLM) -> None:
    heard = [Listener(), Listener(), Listener()]
    inputs: list[Any] = ["The sky is", "word " * 600, "The sea is"]
    good, bad, other = llm.batch(inputs, [{"callbacks": [one]} for one in heard], return_exceptions=True)
    assert [good, other] == [llm.invoke("The sky is"), llm.invoke("The sea is")]
    assert isinstance(bad, ModelError)
    assert [len(one.errors) for one in heard] == [0, 1, 0]
    assert heard[0].ends == [good]
    with pytest.raises(SettingsError, match="ConditionLLM has no setting 'temprature'; did you mean 'temperature'"):
        llm.invoke("x", temprature=1.0)


def test_messages_become_text(llm: ConditionLLM) -> None:
    assert llm.invoke([HumanMessage("hi")]) == llm.invoke("Human: hi")


def test_traces_name_model_and_settings(llm: ConditionLLM) -> None:
    told = llm._get_ls_params(stop=["B"])
    assert (told["ls_provider"], told["ls_model_name"], told["ls_model_type"]) == ("condition", llm.model.name, "llm")
    assert (told["ls_max_tokens"], told["ls_stop"]) == (5, ["B"])


@pytest.mark.real
def test_the_embedded_model_goes_on_with_a_text(embedded: LocalModel) -> None:
    assert "Paris" in ConditionLLM(embedded, max_tokens=8).invoke("The capital of France is")
