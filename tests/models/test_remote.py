"""Whatever writes as a Model, and LangChain's models seen through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from condition.errors import ControlError, ModelError, SettingsError, UnfinishedError
from condition.integrations.langchain import ChatCondition
from condition.models.local import LocalModel
from condition.models.remote import LangChainModel, _settings, as_model, to_langchain_messages
from condition.prompts.template import from_langchain_messages
from condition.protocols import Control, Model
from condition.types import Completion, Message, Messages, Sampling, Usage


class Echo(BaseChatModel):
    """A LangChain chat model that says what it was asked and how."""

    model_name: str = "echo-1"
    reason: str = "stop"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if kwargs.get("seed") == 13:
            raise ConnectionError("the line is dead")
        if messages[-1].text == "please fail":
            raise ValueError("so I do")
        said = "|".join(f"{m.type}:{m.text}" for m in messages) + f" {stop} {sorted(kwargs.items())}"
        message = AIMessage(
            said,
            usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
            response_metadata={"finish_reason": self.reason},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    @property
    def _llm_type(self) -> str:
        return "echo"


class Parrot:
    """A model of our own making."""

    name = "parrot"

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        return [[Completion(prompt[-1].content)] * sampling.n for prompt in prompts]


class NoControl:
    def processor(self, tokenizer: Any, /) -> Any:
        raise AssertionError("nobody asks")


HELLO = (Message("user", "hello"),)
PLEASE_FAIL = (Message("user", "please fail"),)


def test_ours_stay_as_they_are() -> None:
    parrot = Parrot()
    assert as_model(parrot) is parrot


def test_langchain_models_become_ours() -> None:
    model = as_model(Echo())
    assert isinstance(model, LangChainModel)
    assert isinstance(model, Model)
    assert model.name == "echo-1"
    ((completion,),) = model.generate([HELLO])
    assert completion.text == "human:hello None []"
    assert completion.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.model_copy(update={"seconds": 0.0}) == Usage(input_tokens=7, output_tokens=3)


def test_prompts_keep_their_order_and_roles() -> None:
    text = (Message("text", "once "), Message("text", "upon"))
    turns = (Message("system", "S"), Message("user", "U"), Message("assistant", "A"), Message("tool", "T"))
    rows = as_model(Echo()).generate([text, turns, HELLO], Sampling(n=2))
    assert [[c.text.split(" None")[0] for c in row] for row in rows] == [
        ["human:once upon"] * 2,
        ["system:S|human:U|ai:A|tool:T"] * 2,
        ["human:hello"] * 2,
    ]


def test_a_string_is_one_user_message() -> None:
    assert LangChainModel(Echo()).generate("hello")[0][0].text == "human:hello None []"


def test_sampling_is_passed_on_where_it_differs() -> None:
    ((completion,),) = as_model(Echo()).generate([HELLO], Sampling(max_tokens=5, temperature=0.5, stop=("X\n",)))
    assert completion.text == r"human:hello ['X\n'] [('max_tokens', 5), ('temperature', 0.5)]"


def test_a_bound_model_keeps_what_is_bound() -> None:
    bound = as_model(Echo().bind(top_p=0.5))
    assert bound.name == "echo-1"
    assert bound.generate([HELLO])[0][0].text == "human:hello None [('top_p', 0.5)]"


@pytest.mark.parametrize("reason", ["control", "content_filter", "SAFETY"])
def test_a_completion_that_something_stopped_says_so(reason: str) -> None:
    assert as_model(Echo(reason=reason)).generate([HELLO])[0][0].finish_reason == "control"


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_cut_off_completion_says_so(reason: str) -> None:
    assert as_model(Echo(reason=reason)).generate([HELLO])[0][0].finish_reason == "length"


def test_stops_are_cut_where_the_model_does_not() -> None:
    deaf = GenericFakeChatModel(messages=iter([AIMessage("one two three")]))
    assert as_model(deaf).generate([HELLO], Sampling(stop=("three", "two")))[0][0] == Completion("one ")


def test_an_llm_that_gives_text() -> None:
    model = as_model(FakeListLLM(responses=["first", "second"]))
    assert model.generate([HELLO, HELLO]) == [[Completion("first")], [Completion("second")]]


def test_nothing_in_nothing_out() -> None:
    assert as_model(Echo()).generate([]) == []


def test_a_control_needs_a_local_model() -> None:
    with pytest.raises(ControlError, match="local model"):
        as_model(Echo()).generate([HELLO], control=NoControl())


def test_samples_of_one_prompt_have_seeds_of_their_own() -> None:
    first, second = as_model(Echo()).generate([HELLO, HELLO], Sampling(n=3, seed=7))
    assert [f"('seed', {seed})" in completion.text for seed, completion in zip((7, 8, 9), first, strict=True)] == [
        True
    ] * 3
    assert [completion.text for completion in first] == [completion.text for completion in second]


def test_its_errors_are_model_errors() -> None:
    with pytest.raises(ModelError, match="echo-1 did not answer: ConnectionError: the line is dead; check the address"):
        as_model(Echo(), retries=0).generate([HELLO], Sampling(seed=13))


def test_what_was_answered_is_kept_and_only_the_rest_is_asked() -> None:
    model = as_model(Echo(), retries=0)
    assert isinstance(model, LangChainModel)
    with pytest.raises(UnfinishedError, match="1 of 2 prompts are unanswered, the first at index 1") as caught:
        model.generate([HELLO, PLEASE_FAIL], Sampling(n=2))
    assert [[c.text for c in row] for row in caught.value.finished.values()] == [["human:hello None []"] * 2]
    assert isinstance(caught.value.failed[1], ValueError)
    kept = {0: [Completion("a"), Completion("b")]}
    first, second = model.generate([PLEASE_FAIL, HELLO], Sampling(n=2), finished=kept)
    assert first == kept[0]
    assert [c.text for c in second] == ["human:hello None []"] * 2


@pytest.mark.parametrize("finished", [{0: []}, {1: [Completion("a")]}, {-1: [Completion("a")]}])
def test_what_was_finished_of_other_work_is_refused(finished: dict[int, list[Completion]]) -> None:
    with pytest.raises(ModelError, match="of other work: not 1 completions each for 1 prompts"):
        LangChainModel(Echo()).generate([HELLO], finished=finished)


def test_wrong_arguments_are_refused_at_the_door() -> None:
    with pytest.raises(SettingsError, match="retries=-1"):
        as_model(Echo(), retries=-1)
    with pytest.raises(SettingsError, match="concurrency=0"):
        as_model(Echo(), concurrency=0)
    with pytest.raises(SettingsError, match=r"give cd.Sampling\(max_tokens=5\)"):
        as_model(Echo()).generate([HELLO], 5)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="at least one"):
        as_model([])
    with pytest.raises(ModelError, match="Parrot is no LangChain chat model"):
        as_model([Echo(), Parrot()])


def test_several_endpoints_answer_in_order() -> None:
    model = as_model([Echo(), Echo(), Echo()])
    assert model.name == "echo-1"
    prompts = [(Message("user", str(i)),) for i in range(40)]
    assert [c.text.split()[0] for (c,) in model.generate(prompts)] == [f"human:{i}" for i in range(40)]
    assert as_model([Echo(), Echo(model_name="echo-2")]).name == "echo-1 | echo-2"


def test_a_model_that_makes_batches_gets_batches() -> None:
    sizes: list[int] = []

    class Batches(Echo):
        def batch(self, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
            sizes.append(len(inputs))
            return super().batch(inputs, *args, **kwargs)

    rows = as_model(Batches(), concurrency=4).generate([HELLO] * 3, Sampling(n=2, seed=5))
    assert ["('seed', 5)" in first.text and "('seed', 6)" in second.text for first, second in rows] == [True] * 3
    assert sizes == [3, 3]


def test_callbacks_of_a_chain_around_it_hear_of_every_call() -> None:
    class Heard(BaseCallbackHandler):
        calls = 0

        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            self.calls += 1

    heard, model = Heard(), as_model(Echo())
    chain = RunnableLambda(lambda _: model.generate([HELLO] * 3)[0][0].text)
    assert chain.invoke("x", {"callbacks": [heard]}) == "human:hello None []"
    assert heard.calls == 3


def test_a_limit_of_the_langchain_model_holds() -> None:
    limited = as_model(Echo().with_config(max_concurrency=2).bind(top_p=0.5), concurrency=9)
    assert isinstance(limited, LangChainModel)
    assert limited._endpoint(limited.runnables[0], Sampling()).at_once == 2


def test_what_openai_does_not_know_goes_beside_its_protocol() -> None:
    llm = ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key="none", extra_body={"a": 1})  # type: ignore[arg-type]
    sampling = Sampling(top_k=5, min_p=0.1, top_p=0.5)
    assert _settings(llm, sampling) == {"top_p": 0.5, "extra_body": {"a": 1, "min_p": 0.1, "top_k": 5}}
    assert _settings(llm.bind(extra_body={"b": 2}), sampling)["extra_body"] == {"b": 2, "min_p": 0.1, "top_k": 5}
    assert _settings(Echo(), sampling) == {"top_p": 0.5, "top_k": 5, "min_p": 0.1}


@pytest.mark.parametrize("thing", [3, Echo, RunnableLambda(str)], ids=["number", "class", "runnable"])
def test_other_things_are_no_model(thing: object) -> None:
    with pytest.raises(ModelError, match="is no model"):
        as_model(thing)


def test_a_hub_id_is_loaded() -> None:
    with pytest.raises(ModelError, match="nobody/nothing"):
        as_model("nobody/nothing")


@pytest.mark.real
def test_the_embedded_model_is_unwrapped(embedded: LocalModel) -> None:
    llm = ChatCondition(embedded, max_tokens=1)
    assert as_model(embedded) is embedded
    assert as_model(llm) is embedded
    assert as_model(None).name == embedded.name
    bound = as_model(llm.bind(max_tokens=2))
    ((completion,),) = bound.generate([HELLO])
    assert completion.text == embedded.generate([HELLO], Sampling(max_tokens=2))[0][0].text
    assert completion.finish_reason == "length"
    with pytest.raises(SettingsError):
        as_model(llm.bind(functions=[])).generate([HELLO])


def test_messages_come_back_the_same() -> None:
    messages = tuple(Message(role, "x") for role in ("system", "user", "assistant", "tool"))
    assert from_langchain_messages(to_langchain_messages(messages)) == messages
    text = (Message("text", "x"),)
    assert from_langchain_messages(to_langchain_messages(text)) == text
