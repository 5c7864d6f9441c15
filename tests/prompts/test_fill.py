"""Rows into prompts: what is left out, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from pydantic import BaseModel

from condition.errors import DataError, PromptError
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.fill import fill, several
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Example, Message, Messages


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
    with pytest.raises(PromptError, match=r"'q' is null \(nan\).*the word 'nan'"):
        fill(prompt, {"q": float("nan")})
    assert [m.content for m in fill(prompt, {"q": ""})] == [""]


def test_an_input_model_decides_what_null_means() -> None:
    prompt = ChatPrompt(
        [("user", "{% if q %}{{ q }}{% else %}-{% endif %}")], inputs=Question, template_format="jinja2"
    )
    assert fill(prompt, {"q": None}) == (Message("user", "-"),)


def test_what_a_prompt_of_the_users_raises_names_the_row() -> None:
    class Lookup:
        variables = frozenset({"q"})

        def format(self, **inputs: object) -> Messages:
            return (Message("user", {"a": "b"}[str(inputs["q"])]),)

    assert fill(Lookup(), {"q": "a"})[0].content == "b"
    with pytest.raises(PromptError, match=r"Lookup failed for \{'q': 'z'\}: KeyError: 'z'"):
        fill(Lookup(), {"q": "z"})


def test_an_error_of_ours_stays_what_it_is() -> None:
    class Store:
        variables = frozenset({"q"})

        def format(self, **inputs: object) -> Messages:
            raise DataError(f"line 7 has no {inputs['q']}")

    with pytest.raises(DataError, match=r"^line 7 has no x$"):
        fill(Store(), {"q": "x"})


def test_what_a_selector_of_the_users_raises_is_ours() -> None:
    class Broken:
        def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
            raise RuntimeError("no index")

    shots = FewShotPrompt("{q}", [Example({"q": "a"}, "b")], selector=Broken(), k=1)
    with pytest.raises(PromptError, match=r"FewShotPrompt failed for .*RuntimeError: no index"):
        fill(shots, {"q": "z"})


@pytest.mark.parametrize("one", ["When?", "", {"q": "When?"}, {}, None, 5])
def test_one_input_is_no_batch(one: Any) -> None:
    with pytest.raises(PromptError, match="batch takes a list of inputs"):
        several(one)


def test_a_batch_is_any_row_of_inputs() -> None:
    assert several(x for x in ("a", "b")) == several(("a", "b")) == ["a", "b"]
    assert several([]) == []
