"""Every implementer of `Model` through the same checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM

import condition
from condition.protocols import Model
from condition.types import Completion, Message, Messages, Sampling

MAKERS: dict[str, Callable[[Any], Any]] = {
    "LocalModel": lambda tiny_model: tiny_model("llama"),
    "LocalModel with a prompt": lambda tiny_model: tiny_model("gpt2").with_prompt("Say {x}"),
    "a LangChain chat model": lambda tiny_model: condition.as_model(FakeListChatModel(responses=["a", "b", "c"])),
    "several LangChain chat models": lambda tiny_model: condition.as_model(
        [FakeListChatModel(responses=["a", "b", "c"]), FakeListChatModel(responses=["a", "b", "c"])]
    ),
    "a LangChain LLM": lambda tiny_model: condition.as_model(FakeListLLM(responses=["a", "b", "c"])),
}
PROMPTS: list[Messages] = [
    (Message("user", "Who wrote the letter?"),),
    (Message("system", "Be brief."), Message("user", "{braces} é 🙂")),
    (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
]
SAMPLING = Sampling(max_tokens=3)


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest, tiny_model: Any) -> Any:
    return MAKERS[request.param](tiny_model)


def test_is_one(model: Any) -> None:
    assert isinstance(model, Model)
    assert isinstance(model.name, str)
    assert model.name
    assert condition.as_model(model) is model


def test_gives_one_list_a_prompt(model: Any) -> None:
    found = model.generate(PROMPTS, SAMPLING)
    assert [len(completions) for completions in found] == [1, 1, 1]
    for (completion,) in found:
        assert isinstance(completion, Completion)
        assert isinstance(completion.text, str)
        assert completion.finish_reason in ("stop", "length")


def test_gives_n_samples(model: Any) -> None:
    found = model.generate(PROMPTS[:2], Sampling(max_tokens=2, temperature=1.0, n=3, seed=0))
    assert [len(completions) for completions in found] == [3, 3]


def test_nothing_is_asked_of_nothing(model: Any) -> None:
    assert model.generate([], SAMPLING) == []


def test_a_stop_text_is_cut_off(model: Any) -> None:
    for (completion,) in model.generate(PROMPTS, Sampling(max_tokens=3, stop=("a", "e"))):
        assert "a" not in completion.text
        assert "e" not in completion.text
