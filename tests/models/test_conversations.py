"""Prompts as people type them, and what is told to those who type something else."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from condition.errors import ModelError
from condition.models.conversations import conversation, conversations
from condition.prompts.template import ChatPrompt
from condition.types import Message, Sampling
from tests.conftest import TinyModel

PROMPT = ChatPrompt([("system", "Answer."), ("user", "{context}\n{question}")])
ASKED = (Message("user", "Why?"),)
TOLD = (Message("system", "Be brief."), *ASKED)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("Why?", [ASKED]),
        (["Why?", "Why?"], [ASKED, ASKED]),
        (TOLD, [TOLD]),
        ([list(TOLD), "Why?"], [TOLD, ASKED]),
        ([], []),
    ],
)
def test_a_string_is_one_user_message_and_messages_are_one_prompt(given: Any, found: list[Any]) -> None:
    assert conversations(given) == found
    if len(found) == 1:
        assert conversation(given) == found[0]


def test_a_prompt_without_messages() -> None:
    with pytest.raises(ModelError, match=r"^prompt 1: a prompt without messages"):
        conversations(["Why?", ()])


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (5, ""),
        ([5], ""),
        ([["user", "x"]], ""),
        ([("user", "x")], ""),
        (None, ""),
        (Message("user", "x"), ""),
        (b"x", ""),
        ({"context": "x"}, r".*model\.invoke\(inputs\) or model\.batch\(\[inputs\]\)"),
        ([{"context": "x"}], r".*model\.batch\(\[inputs\]\)"),
        ([{"role": "user", "content": "x"}], r".*a turn is Message\(role, content\)"),
        (PROMPT, r".*prompt\.format\(\.\.\.\).*with_prompt"),
        (HumanMessage("x"), r".*condition\.prompts\.template\.from_langchain_messages\(messages\)"),
        ([HumanMessage("x")], ".*from_langchain_messages"),
        ([[HumanMessage("x")], "y"], ".*from_langchain_messages"),
        ([Message("user", "x"), HumanMessage("x")], ".*from_langchain_messages"),
    ],
)
def test_what_is_no_prompt(tiny_model: TinyModel, said: Any, advice: str) -> None:
    with pytest.raises(ModelError, match=f"a prompt is a string or a sequence of Messages, not {advice}"):
        tiny_model().generate(said)


def test_prompts_from_a_generator(tiny_model: TinyModel) -> None:
    model, sampling = tiny_model(), Sampling(max_tokens=2)
    prompts: Any = (f"Colour {i}?" for i in range(3))
    assert len(model.generate(prompts, sampling)) == 3
