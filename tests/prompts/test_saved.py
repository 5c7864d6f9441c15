from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from condition.errors import PromptError
from condition.prompts.saved import LostPrompt, prompt_from_json, prompt_to_json
from condition.prompts.template import ChatPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages


class Inputs(BaseModel):
    question: str
    tone: str = "brief"


class Own:
    variables = frozenset({"question"})

    def format(self, **inputs: object) -> Messages:
        return (Message("user", str(inputs["question"])),)


def saved(prompt: Prompt) -> Prompt:
    return prompt_from_json(json.loads(json.dumps(prompt_to_json(prompt))))


@pytest.mark.parametrize("prompt", [Own(), ChatPrompt([("user", "{question} {tone}")], inputs=Inputs)])
def test_a_prompt_that_is_code_is_never_guessed(prompt: Any) -> None:
    again = saved(saved(prompt))
    assert isinstance(again, LostPrompt)
    with pytest.raises(PromptError, match="with_prompt"):
        again.format(question="?")


def test_a_template_comes_back_the_same() -> None:
    prompt = ChatPrompt([("system", "{{braces}}"), ("user", "{question}"), Message("assistant", "{literal}")])
    assert saved(prompt).format(question="{x}") == prompt.format(question="{x}")


def test_a_tuned_prompt_comes_back_from_langchain() -> None:
    from condition.integrations.langchain import TunedPrompt  # noqa: PLC0415 - two floors up

    own = ChatPrompt([("user", "{question}")])
    assert as_prompt(TunedPrompt(prompt=own, input_variables=["question"])) is own
