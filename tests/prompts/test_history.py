from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import MessagesPlaceholder

from condition.errors import PromptError
from condition.prompts.history import History
from condition.types import Message

SAID = (Message("user", "{a}"), Message("assistant", "b"), Message("user", "c"))


@pytest.mark.parametrize(
    "given_as",
    [
        SAID,
        [HumanMessage("{a}"), AIMessage("b"), HumanMessage("c")],
        [("user", "{a}"), ("assistant", "b"), ["human", "c"]],
        [SAID[0], AIMessage("b"), ("user", "c")],
    ],
)
def test_messages_of_any_kind(given_as: Any) -> None:
    assert History().format(history=given_as) == SAID


@given(st.text())
def test_their_words_are_never_parsed(words: str) -> None:
    assert History().format(history=[("user", words)]) == (Message("user", words),)


def test_the_last_ones_only() -> None:
    assert History(last=2).format(history=SAID) == SAID[1:]
    assert History(last=9).format(history=SAID) == SAID


def test_it_may_be_left_out_where_it_is_optional() -> None:
    assert History(optional=True).variables == frozenset()
    assert History(optional=True).format() == ()
    assert History("past").variables == {"past"}
    with pytest.raises(PromptError, match="no value for 'past'"):
        History("past").format()


def test_it_is_a_placeholder_for_langchain() -> None:
    (part,) = History("past", optional=True, last=3).to_langchain().messages
    assert isinstance(part, MessagesPlaceholder)
    assert (part.variable_name, part.optional, part.n_messages) == ("past", True, 3)


@pytest.mark.parametrize("value", ["said", 5, None, [5], [("robot", "x")], [("user", 5)], [("user",)]])
def test_what_are_no_messages_is_refused(value: Any) -> None:
    with pytest.raises(PromptError, match="'history'"):
        History().format(history=value)


@pytest.mark.parametrize(("settings", "message"), [({"name": "a b"}, "no name"), ({"last": 0}, "keep nothing")])
def test_a_place_that_can_not_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        History(**settings)
