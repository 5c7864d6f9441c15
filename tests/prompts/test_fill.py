"""Rows into prompts: what is left out, what is refused."""

from __future__ import annotations

import pytest
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from pydantic import BaseModel

from condition.errors import PromptError
from condition.prompts.fill import fill
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages


class Own:
    variables = frozenset({"q"})

    def format(self, **inputs: object) -> Messages:
        return (Message("user", f"{inputs['q']}"),)


class Question(BaseModel):
    q: str | None = None


PROMPTS = [
    as_prompt("{q}"),
    ChatPrompt([("user", "{{ q }}")], template_format="jinja2"),
    TextPrompt("{q}"),
    as_prompt(ChatPromptTemplate([MessagesPlaceholder("past", optional=True), ("human", "{q}")])),
    Own(),
]
KINDS = ["chat", "jinja", "text", "langchain", "own"]


@pytest.mark.parametrize("prompt", PROMPTS, ids=KINDS)
def test_columns_that_the_prompt_does_not_use_are_left_out(prompt: Prompt) -> None:
    assert [m.content for m in fill(prompt, {"q": "x", "title": "t", "hint": None})] == ["x"]


@pytest.mark.parametrize("prompt", PROMPTS, ids=KINDS)
def test_a_null_is_never_written_as_a_word(prompt: Prompt) -> None:
    with pytest.raises(PromptError, match=r"'q' is null \(None\).*drop the row"):
        fill(prompt, {"q": None})
    assert [m.content for m in fill(prompt, {"q": ""})] == [""]


def test_an_input_model_decides_what_null_means() -> None:
    prompt = ChatPrompt(
        [("user", "{% if q %}{{ q }}{% else %}-{% endif %}")], inputs=Question, template_format="jinja2"
    )
    assert fill(prompt, {"q": None}) == (Message("user", "-"),)
