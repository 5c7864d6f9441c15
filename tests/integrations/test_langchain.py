"""The chat model: LangChain's own standard tests, and what they do not ask."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from condition.adapters.lora import LoRA
from condition.errors import ModelError, PromptError
from condition.integrations.langchain import ChatCondition
from condition.models import writing
from condition.models.local import LocalModel
from condition.types import Message, Sampling
from tests.conftest import TinyModel

LONG = re.compile("tool|structured|json|agent|anthropic")
"""Names of tests that look at what a model says."""
QUESTIONS: list[Any] = ["Hello", "Name a colour.", "What is the capital of France? Answer in one word."]


class Standard:
    """What both suites are told. Where a flag is false, their tests of that feature skip themselves."""

    @pytest.fixture(autouse=True)
    def _hold(self, embedded: LocalModel, request: pytest.FixtureRequest) -> None:
        self.embedded = embedded
        self.long = bool(LONG.search(request.node.name))
        # Greedy, so small a model says the same words again and again inside a string, up to any token limit.
        self.draws = {"temperature": 1.0, "top_p": 0.95, "seed": 0} if "structured_output" in request.node.name else {}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCondition

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model_or_folder": self.embedded}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """The suite's own, with few tokens where the answer is not looked at: 100 a test take minutes."""
        given = super().standard_chat_model_params  # type: ignore[misc]  # a mixin of the two suites
        return {**given, "max_tokens": 150 if self.long else 4, **self.draws}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return False  # the model reads text only; so it is with audio, video and PDF, whose flags are false by default

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        llm = ChatCondition(self.embedded, max_tokens=1)
        rules = "You know everything about rivers, lakes and seas. You answer in one short sentence."
        asked = [SystemMessage(rules), HumanMessage("Which river is the longest?")]
        with self.embedded.remember((Message("system", rules),)):
            return full(llm.stream(asked)) if stream else llm.invoke(asked)

    @property
    def supports_model_override(self) -> bool:
        return False  # the weights are those in memory; another model is another ChatCondition, or an adapter


@pytest.mark.real
class TestUnit(Standard, ChatModelUnitTests):
    pass


@pytest.mark.real
class TestIntegration(Standard, ChatModelIntegrationTests):
    @pytest.mark.xfail(reason="a model of 135 million parameters does not begin a tool call where it may also talk")
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_agent_loop(self, model: BaseChatModel) -> None:
        super().test_agent_loop(model)


class Listener(BaseCallbackHandler):
    """Writes down what callbacks are told."""

    def __init__(self) -> None:
        self.starts = 0
        self.tokens: list[str] = []
        self.ends: list[str] = []
        self.errors: list[BaseException] = []

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.starts += 1

    def on_llm_new_token(self, token: str, **_: Any) -> None:  # type: ignore[override]  # LangChain allows blocks too
        self.tokens.append(token)

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.ends.append(response.generations[0][0].text)

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.errors.append(error)


@pytest.fixture
def llm(embedded: LocalModel) -> ChatCondition:
    return ChatCondition(embedded, max_tokens=5)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts of each batch that a network reads."""
    seen: list[int] = []
    read = writing.store

    def counted(network: Any, prompts: Any, *others: Any) -> Any:
        seen.append(len(prompts))
        return read(network, prompts, *others)

    monkeypatch.setattr(writing, "store", counted)
    return seen


def full(chunks: Iterator[AIMessageChunk]) -> AIMessageChunk:
    first, *others = chunks
    for chunk in others:
        first = first + chunk
    return first


def spent(answer: Any) -> int:
    return int(answer.usage_metadata["output_tokens"])


def tokens(answer: Any) -> list[int]:
    return [answer.usage_metadata[f"{kind}_tokens"] for kind in ("input", "output", "total")]


@pytest.mark.real
class TestOneCall:
    def test_it_says_what_the_local_model_says(self, llm: ChatCondition, embedded: LocalModel) -> None:
        messages = [SystemMessage("Be brief."), HumanMessage("Hello")]
        ours = embedded.generate([(Message("system", "Be brief."), Message("user", "Hello"))], Sampling(max_tokens=5))
        answer, completion = llm.invoke(messages), ours[0][0]
        assert answer.content == completion.text
        assert completion.usage is not None
        assert answer.usage_metadata == {
            "input_tokens": llm.get_num_tokens_from_messages(messages),
            "output_tokens": completion.usage.output_tokens,
            "total_tokens": completion.usage.total_tokens,
        }
        assert answer.response_metadata["model_name"] == embedded.name
        assert answer.response_metadata["finish_reason"] == completion.finish_reason == "length"
        assert answer.response_metadata["logprob"] == pytest.approx(completion.logprob, abs=1e-4)

    def test_stop_is_found_across_tokens(self, llm: ChatCondition, embedded: LocalModel) -> None:
        whole = embedded.generate("Hello", Sampling(max_tokens=5))[0][0]
        pieces = [str(embedded.tokenizer.decode([token])) for token in whole.token_ids]
        stop = pieces[1][-1:] + pieces[2][:2]
        assert stop in whole.text
        assert all(stop not in piece for piece in pieces)
        wanted = whole.text[: whole.text.find(stop)]
        answer = llm.invoke("Hello", stop=[stop])
        assert answer.content == wanted
        assert answer.response_metadata["finish_reason"] == "stop"
        assert full(llm.stream("Hello", stop=[stop])).content == wanted
        assert llm.bind(stop=[stop]).invoke("Hello").content == wanted

    def test_stops_of_a_call_add_to_those_of_the_model(self, embedded: LocalModel) -> None:
        text = str(ChatCondition(embedded, max_tokens=5).invoke("Hello").content)
        early, late = text[2:4], text[-3:]
        assert ChatCondition(embedded, max_tokens=5, stop=[early]).invoke("Hello", stop=[late]).content == text[:2]
        assert ChatCondition(embedded, max_tokens=5, stop=late).invoke("Hello", stop=[early]).content == text[:2]

    def test_settings_of_a_call_replace_those_of_the_model(self, llm: ChatCondition) -> None:
        assert spent(llm.invoke("Hello", max_tokens=2)) == 2
        assert spent(llm.bind(max_tokens=2).invoke("Hello")) == 2
        configured = llm.configurable_fields(max_tokens=ConfigurableField(id="length"))
        assert spent(configured.with_config(configurable={"length": 3}).invoke("Hello")) == 3

    def test_n_samples_and_their_seed(self, llm: ChatCondition) -> None:
        def draw(seed: int) -> list[str]:
            (samples,) = llm.generate([[HumanMessage("Name a colour.")]], n=3, temperature=1.0, seed=seed).generations
            return [sample.text for sample in samples]

        first = draw(1)
        assert len(set(first)) > 1
        assert first == draw(1) != draw(2)

    def test_a_seed_gives_the_same_text_in_a_stream(self, embedded: LocalModel) -> None:
        llm = ChatCondition(embedded, max_tokens=5, temperature=1.0, seed=3)
        assert full(llm.stream("Name a colour.")).content == llm.invoke("Name a colour.").content

    def test_tokens_are_counted_by_the_model_itself(self, llm: ChatCondition, embedded: LocalModel) -> None:
        assert llm.get_num_tokens("Hello there") == len(embedded.tokenizer("Hello there")["input_ids"])


@pytest.mark.real
class TestStream:
    def test_joined_it_is_what_invoke_says(self, llm: ChatCondition) -> None:
        chunks = list(llm.stream("Hello"))
        streamed, whole = full(iter(chunks)), llm.invoke("Hello")
        assert len(chunks) > 3
        assert streamed.content == whole.content
        assert streamed.usage_metadata == whole.usage_metadata
        assert streamed.response_metadata == pytest.approx(whole.response_metadata, abs=1e-4)
        assert [bool(chunk.usage_metadata) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    def test_callbacks_get_tokens(self, llm: ChatCondition) -> None:
        heard = Listener()
        text = full(llm.stream("Hello", {"callbacks": [heard]})).content
        assert "".join(heard.tokens) == text
        assert heard.ends == [text]

    def test_with_streaming_invoke_tells_callbacks_too(self, embedded: LocalModel) -> None:
        heard = Listener()
        answer = ChatCondition(embedded, max_tokens=5, streaming=True).invoke("Hello", {"callbacks": [heard]})
        assert "".join(heard.tokens) == answer.content
        assert len(heard.tokens) > 3

    def test_after_leaving_early_the_model_is_free(self, llm: ChatCondition) -> None:
        pieces = llm.stream("Count to five.", max_tokens=200)
        assert next(pieces).content
        pieces.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
        assert llm.invoke("Hello", max_tokens=1).content


@pytest.mark.real
class TestBatch:
    def test_it_says_the_same_in_one_call_of_the_network(self, llm: ChatCondition, calls: list[int]) -> None:
        together = llm.batch(QUESTIONS)
        assert calls == [len(QUESTIONS)]
        alone = [llm.invoke(question) for question in QUESTIONS]
        assert [a.content for a in together] == [a.content for a in alone]
        assert [tokens(a) for a in together] == [tokens(a) for a in alone]
        shared = [a.usage_metadata["input_token_details"]["cache_read"] for a in together if a.usage_metadata]
        assert all(0 < saved < tokens(a)[0] for saved, a in zip(shared, together, strict=True))
        assert len({a.id for a in together}) == len(QUESTIONS)

    def test_abatch_generate_and_chains_do_too(self, llm: ChatCondition, calls: list[int]) -> None:
        wanted = [answer.content for answer in llm.batch(QUESTIONS[:2])]
        assert [a.content for a in asyncio.run(llm.abatch(QUESTIONS[:2]))] == wanted
        result = llm.generate([[HumanMessage(q)] for q in QUESTIONS[:2]])
        assert [row[0].text for row in result.generations] == wanted
        chain: Runnable[Any, str] = RunnableLambda(lambda question: [HumanMessage(question)]) | llm | StrOutputParser()
        assert chain.batch(QUESTIONS[:2]) == wanted
        assert calls == [2] * 4

    def test_max_concurrency_bounds_a_call(self, llm: ChatCondition, calls: list[int]) -> None:
        llm.batch(QUESTIONS, {"max_concurrency": 2}, max_tokens=1)
        assert calls == [2, 1]

    def test_equal_prompts_get_samples_of_their_own(self, llm: ChatCondition, calls: list[int]) -> None:
        animals: list[Any] = ["Name an animal."] * 4
        answers = llm.batch(animals, temperature=1.5, seed=0)
        assert len({str(a.content) for a in answers}) > 1
        assert calls == [4]

    def test_each_has_its_own_config(self, llm: ChatCondition) -> None:
        heard = [Listener(), Listener()]
        answers = llm.batch(QUESTIONS[:2], [{"callbacks": [listener]} for listener in heard])
        assert [listener.ends for listener in heard] == [[a.content] for a in answers]

    def test_each_has_its_own_error(self, llm: ChatCondition) -> None:
        heard = Listener()
        inputs: list[Any] = ["Hello", "word " * 9000, [HumanMessage([{"type": "image", "url": "x"}])], 7, "Hello"]
        good, long, image, number, again = llm.batch(inputs, {"callbacks": [heard]}, return_exceptions=True)
        assert good.content == again.content == llm.invoke("Hello").content
        assert isinstance(long, ModelError)
        assert str(long).startswith("the prompt has")  # alone it has no place
        assert isinstance(image, PromptError)
        assert isinstance(number, ValueError)
        assert (heard.starts, len(heard.errors)) == (4, 2)  # the number never got as far as a call
        with pytest.raises(ModelError, match="shorten"):
            llm.batch(inputs[:2])

    def test_nothing_in_nothing_out(self, llm: ChatCondition) -> None:
        assert llm.batch([]) == []

    def test_a_plain_adapter_and_its_base_are_two_in_a_cache(self, tiny_model: TinyModel) -> None:
        base = tiny_model()
        tuned = LocalModel(LoRA(rank=2).attach(base.network), base.tokenizer, source=base.source)
        other = LocalModel(LoRA(rank=2).attach(base.network), base.tokenizer, source=base.source)
        assert tuned.name == f"{base.name} + lora"
        keys = [ChatCondition(model)._identifying_params["fingerprint"] for model in (base, tuned, other)]
        assert len(set(keys)) == 3

    def test_a_cache_is_asked_first(self, embedded: LocalModel, calls: list[int]) -> None:
        llm = ChatCondition(embedded, max_tokens=2, cache=InMemoryCache())
        first = llm.batch(QUESTIONS[:2])
        assert [a.content for a in llm.batch(QUESTIONS[:2])] == [a.content for a in first]
        assert calls == [2]
        llm.batch(QUESTIONS[:2], max_tokens=3)
        assert calls == [2, 2]


@pytest.mark.real
class TestThreads:
    def test_eight_at_once_are_not_mixed(self, embedded: LocalModel) -> None:
        llm = ChatCondition(embedded, max_tokens=3)
        inputs: list[Any] = [f"Say the number {i}." for i in range(8)]

        def ask(i: int) -> str:
            if i % 4 == 0:
                return llm.invoke(inputs[i]).text
            if i % 4 == 1:
                return full(llm.stream(inputs[i])).text
            if i % 4 == 2:
                return llm.batch([inputs[i], inputs[0]], temperature=1.0, seed=i)[0].text
            # The name of a special token is written literally, for which the tokenizer's state is changed.
            return llm.invoke(f"{inputs[i]} <|im_end|>", temperature=1.0, seed=i).text

        alone = [ask(i) for i in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(8))) == alone
