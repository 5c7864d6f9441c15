"""ShareGPT and ChatML: an Example for each turn of the assistant, behind what was said before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from condition.data import read
from condition.errors import DataError
from condition.prompts.history import History
from condition.types import Message

SAID = [("system", "Be brief."), ("human", "Hello"), ("gpt", "Good day"), ("human", "Who?"), ("gpt", "Me")]
SHAREGPT: dict[str, Any] = {"conversations": [{"from": who, "value": words} for who, words in SAID]}
CHATML: dict[str, Any] = {
    "messages": [{"role": {"human": "user", "gpt": "assistant"}.get(w, w), "content": words} for w, words in SAID]
}
MESSAGES = (
    Message("system", "Be brief."),
    Message("user", "Hello"),
    Message("assistant", "Good day"),
    Message("user", "Who?"),
)


@pytest.mark.parametrize("row", [SHAREGPT, CHATML, {"conversations": CHATML["messages"]}])
def test_each_turn_of_the_assistant_is_taught_behind_what_was_said_before(row: dict[str, Any], tmp_path: Path) -> None:
    first, second = read([row])
    assert (dict(first.inputs), first.target, first.id) == ({"history": MESSAGES[:2]}, "Good day", "row 0#1")
    assert (dict(second.inputs), second.target, second.id) == ({"history": MESSAGES}, "Me", "row 0#2")
    assert History().format(**second.inputs) == MESSAGES
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({**row, "id": "c7", "topic": "names"}))
    assert [(e.id, e.inputs["topic"]) for e in read(path)] == [("c7#1", "names"), ("c7#2", "names")]
    pandas.DataFrame([row]).to_parquet(tmp_path / "chats.parquet")
    for source in (tmp_path / "chats.parquet", pandas.read_parquet(tmp_path / "chats.parquet")):
        assert [example.target for example in read(source)] == ["Good day", "Me"]


def test_what_a_user_says_last_has_no_answer_to_teach() -> None:
    turns = [*SHAREGPT["conversations"], {"from": "human", "value": "Why?"}]
    assert len(read([{"conversations": turns}])) == 2


def test_turns_that_are_not_to_be_taught() -> None:
    turns = [dict(turn) for turn in CHATML["messages"]]
    turns[2]["weight"], turns[4]["weight"] = 0, 1
    (example,) = read([{"messages": turns}])
    assert (example.target, example.inputs["history"]) == ("Me", MESSAGES)
    turns[4]["weight"] = 0
    with pytest.raises(DataError, match="row 0: 'messages' holds no turn of the assistant with another weight than 0"):
        read([{"messages": turns}])


def test_calls_and_results_of_tools() -> None:
    turns = [("human", "Sum?"), ("function_call", "add(1, 2)"), ("observation", "3"), ("gpt", "Three")]
    call, answer = read([{"conversations": [{"from": who, "value": words} for who, words in turns]}])
    assert call.target == "add(1, 2)"
    assert [m.role for m in answer.inputs["history"]] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([{"from": "human", "value": "Hello"}], "row 0: 'conversations' holds no turn of the assistant"),
        ([{"from": "narrator", "value": "x"}], "row 0: turn 0: unknown speaker 'narrator'; known: system"),
        ([{"from": "human", "value": "x"}, {"from": "gpt", "value": None}], "turn 1: 'value' is NoneType, not text"),
        ([{"from": "human", "value": "x"}, {"by": "gpt"}], "turn 1: expected {'from': …, 'value': …}"),
        ([{"from": "human", "value": "x"}, {"from": "gpt", "value": ""}], "row 0: the target is empty"),
    ],
)
def test_broken_turns(turns: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read([{"conversations": turns}])


@pytest.mark.parametrize("judged", [{"chosen": "a", "rejected": "b"}, {"label": False}])
def test_judged_conversations_are_not_taught_word_by_word(judged: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no column 'target'"):
        read([{**SHAREGPT, **judged}])
