"""Alpaca, Dolly and GSM8K: known by their columns, read as inputs and target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from condition.data import read
from condition.errors import DataError
from condition.prompts.history import History
from condition.prompts.template import ChatPrompt
from condition.types import Example, Message

ALPACA: dict[str, Any] = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
DOLLY = {"instruction": "Who?", "context": "Ada wrote.", "response": "Ada", "category": "closed_qa"}
GSM8K = {"question": "How many?", "answer": "She has 2 + 2 = <<2+2=4>>4 pens.\nTwice that is 8.\n#### 1,008"}


def test_alpaca() -> None:
    assert read([ALPACA]) == [Example({"instruction": "Add.", "input": "1 and 2"}, "3", id="row 0")]
    (example,) = read([{**ALPACA, "text": "Add. 1 and 2 3", "id": 7}])
    assert (dict(example.inputs), example.id) == ({"instruction": "Add.", "input": "1 and 2"}, "7")
    assert dict(read([{"instruction": "Add.", "output": "3"}])[0].inputs) == {"instruction": "Add."}


def test_what_was_said_before() -> None:
    (example,) = read([{**ALPACA, "history": [["Hello", "Good day"], ["Who?", "Me"]]}])
    prompt = History() + ChatPrompt([("user", "{instruction}")])
    assert prompt.format(**example.inputs) == (
        Message("user", "Hello"),
        Message("assistant", "Good day"),
        Message("user", "Who?"),
        Message("assistant", "Me"),
        Message("user", "Add."),
    )
    assert read([{**ALPACA, "history": None}])[0].inputs["history"] == ()
    for broken in (["Hello"], [["Hello"]], [["Hello", 5]], [{"user": "a", "assistant": "b"}]):
        with pytest.raises(DataError, match=r"row 0: 'history' should be a list of \[user, assistant\] pairs"):
            read([{**ALPACA, "history": broken}])


def test_dolly() -> None:
    inputs = {"instruction": "Who?", "context": "Ada wrote.", "category": "closed_qa"}
    assert read([DOLLY]) == [Example(inputs, "Ada", id="row 0")]
    assert dict(read([DOLLY], inputs=["instruction"])[0].inputs) == {"instruction": "Who?"}


def test_gsm8k_parts_the_number_from_the_steps() -> None:
    (example,) = read([GSM8K])
    steps = "She has 2 + 2 = 4 pens.\nTwice that is 8."
    assert example == Example({"question": "How many?"}, "1,008", steps, "row 0")
    assert read([{"question": "q", "answer": "#### -5"}])[0].rationale is None
    (whole,) = read([GSM8K], target="answer")
    assert whole.target == GSM8K["answer"]
    with pytest.raises(DataError, match="no column 'target'"):
        read([{"question": "q", "answer": "four"}])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**ALPACA, "output": 3}, "row 0: the answer is int, not text"),
        ({**ALPACA, "output": " "}, "row 0: the target is empty"),
        ({**DOLLY, "response": None}, "row 0: the answer is NoneType, not text"),
    ],
)
def test_an_answer_that_can_not_be_taught(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read([row])


def test_the_real_files(shared_data: Path) -> None:
    alpaca, dolly = read(shared_data / "alpaca" / "train.jsonl"), read(shared_data / "dolly" / "train.jsonl.gz")
    assert (len(alpaca), set(alpaca[0].inputs)) == (2000, {"instruction", "input"})
    assert (len(dolly), set(dolly[0].inputs)) == (1990, {"instruction", "context", "category"})
    gsm8k = read(shared_data / "gsm8k" / "train.jsonl")
    assert all(example.rationale and "<<" not in example.rationale for example in gsm8k)
    assert all(float(example.target.replace(",", "")) == int(example.target.replace(",", "")) for example in gsm8k)
    lima = read(shared_data / "lima" / "train.jsonl")
    assert sum(bool(example.inputs["history"]) for example in lima) == 8
