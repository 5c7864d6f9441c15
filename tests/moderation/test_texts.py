from __future__ import annotations

from datetime import date

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, InvalidToolCall
from langchain_core.prompt_values import ChatPromptValue

from condition.errors import DataError
from condition.moderation.texts import checked, judged, rewritten, strings
from condition.types import Answer, Completion, Example, Message, Ranking, Verdict

CALL = {"name": "search", "args": {"query": "ships"}, "id": "7", "type": "tool_call"}


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ["a"]),
        ({"q": "a", "n": 5, "more": ["b", ("c", None)]}, ["a", "b", "c"]),
        (Message("user", "a"), ["a"]),
        ([Message("user", "a"), Message("assistant", "b")], ["a", "b"]),
        (Completion("a", token_ids=(1,)), ["a"]),
        (Answer("a", reasoning="b", candidates=(Completion("c"),)), ["a", "b"]),
        (Answer("a", error="b"), ["a", "b"]),
        ({"when": date(1815, 12, 10), "raw": b"a"}, ["1815-12-10", "b'a'"]),
        (Example({"q": "a", "n": 1}, "b", rationale="c", id="x"), ["a", "b", "c"]),
        (Ranking({"q": "a"}, ("b", "c")), ["a", "b", "c"]),
        (HumanMessage("a", id="x"), ["a"]),
        (ChatPromptValue(messages=[HumanMessage("a")]), ["a"]),
        (Document("a", metadata={"source": "b"}), ["a"]),
        (5, []),
        (None, []),
        ({}, []),
    ],
)
def test_every_text_that_people_read_is_found(value: object, texts: list[str]) -> None:
    assert strings(value) == texts


def test_tool_calls_are_texts_too() -> None:
    assert "ships" in strings(AIMessage("a", tool_calls=[CALL]))
    changed = rewritten(AIMessage("a", tool_calls=[CALL]), lambda text: text.replace("ships", "*****"))
    assert changed.tool_calls[0]["args"] == {"query": "*****"}


def test_a_changed_message_does_not_tell_its_words_once_more() -> None:
    wrong = InvalidToolCall(type="invalid_tool_call", name=None, args='{"a": "ships', id="8", error="cut off")
    told = {"finish_reason": "stop", "logprobs": {"content": [{"token": "ships"}]}}
    message = AIMessage(
        "a", invalid_tool_calls=[wrong], additional_kwargs={"raw": "ships"}, response_metadata=told, id="7"
    )
    changed = rewritten(message, lambda text: text.replace("ships", "*****"))
    assert changed.invalid_tool_calls[0]["args"] == '{"a": "*****'
    assert "ships" not in repr(changed)
    assert (changed.id, changed.response_metadata) == ("7", {"finish_reason": "stop"})
    assert rewritten(message, str) == message


def test_blocks_of_a_message_are_texts_too() -> None:
    message = HumanMessage([{"type": "text", "text": "a"}, "b"])
    assert {"a", "b"} <= set(strings(message))


def test_texts_are_changed_and_the_rest_stays() -> None:
    value = {"q": ["a", 5], "m": Message("user", "a"), "d": Document("a", metadata={"source": "a"})}
    assert rewritten(value, str.upper) == {
        "q": ["A", 5],
        "m": Message("user", "A"),
        "d": Document("A", metadata={"source": "a"}),
    }


def test_an_object_stays_one_unless_its_words_change() -> None:
    day = date(1815, 12, 10)
    assert rewritten({"when": day}, str.upper) == {"when": day}
    assert rewritten({"when": day}, lambda text: text.replace("1815", "****")) == {"when": "****-12-10"}


def test_what_is_no_text_is_refused() -> None:
    for wrong in (None, 5, b"a"):
        with pytest.raises(DataError, match="a moderator reads a string"):
            checked(wrong)


def test_half_characters_are_replaced() -> None:
    assert checked("a\ud800") == "a?"


def test_each_different_text_is_judged_once_and_blank_or_long_ones_never() -> None:
    seen: list[list[str]] = []

    def judge(texts: list[str]) -> list[Verdict]:
        seen.append(texts)
        return [Verdict(text != "bad") for text in texts]

    found = judged(["bad", "", "fine", " \n", "x" * 11, "bad"], 10, judge)
    assert seen == [["bad", "fine"]]
    assert [verdict.allowed for verdict in found] == [False, True, True, True, False, False]
    assert found[4].categories == ("unchecked",)
    assert found[4].reason is not None
    assert "11 characters are more than the 10" in found[4].reason


def test_no_texts_ask_nobody() -> None:
    def never(texts: list[str]) -> list[Verdict]:
        raise AssertionError

    assert judged([], 10, never) == []
    assert judged(["", " "], 10, never) == [Verdict(True)] * 2
