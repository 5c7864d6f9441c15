"""Every implementer of `Model` and `Scorer` through the same checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import LLM, FakeListChatModel, SimpleChatModel
from langchain_core.messages import BaseMessage

import condition
from condition.testing import check_model, check_scorer
from tests.conftest import TinyModel


class Echo(SimpleChatModel):
    """Says the last message again, in LangChain."""

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _call(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> str:
        return str(messages[-1].content)


class EchoLLM(LLM):
    """The same for texts."""

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return prompt


MAKERS: dict[str, Callable[[TinyModel], Any]] = {
    "LocalModel": lambda tiny_model: tiny_model("llama"),
    "LocalModel with a prompt": lambda tiny_model: tiny_model("gpt2").with_prompt("Say {x}"),
    "LocalModel that shares no prefix": lambda tiny_model: tiny_model("qwen2", **SLIDING),
    "Controlled": lambda tiny_model: condition.Controlled(tiny_model(), condition.Words(ban=["e"])),
    "Guarded": lambda tiny_model: condition.Guarded(tiny_model(), before=condition.WordList(["braces"])),
    "a LangChain chat model": lambda tiny_model: condition.as_model(Echo()),
    "several LangChain chat models": lambda tiny_model: condition.as_model([Echo(), Echo()]),
    "a LangChain LLM": lambda tiny_model: condition.as_model(EchoLLM()),
    "a LangChain chat model as it is": lambda tiny_model: Echo(),
}
UNSHARED = pytest.mark.filterwarnings("ignore:prefix sharing is off:condition.errors.SharingWarning")
SLIDING = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}


@UNSHARED
@pytest.mark.parametrize("name", MAKERS)
def test_every_model(name: str, tiny_model: TinyModel) -> None:
    check_model(MAKERS[name](tiny_model))


def test_one_that_says_something_else_each_time() -> None:
    check_model(FakeListChatModel(responses=["a", "b", "c"]), repeatable=False)


@pytest.mark.parametrize("name", [name for name in MAKERS if "LangChain" not in name])
def test_as_model_leaves_ours_as_it_is(name: str, tiny_model: TinyModel) -> None:
    model = MAKERS[name](tiny_model)
    assert condition.as_model(model) is model


@UNSHARED
@pytest.mark.parametrize("name", [name for name in MAKERS if name.startswith("LocalModel")])
def test_every_scorer(name: str, tiny_model: TinyModel) -> None:
    check_scorer(MAKERS[name](tiny_model))
