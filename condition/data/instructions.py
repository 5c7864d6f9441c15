"""Instructions with their answers: the columns of Alpaca, Dolly and GSM8K.

Alpaca   instruction, input, output [history]     inputs instruction, input [history]      target output
Dolly    instruction, context, response           inputs instruction, context, category    target response
GSM8K    question, answer = steps "#### " number   inputs question    target the number, rationale the steps

GSM8K: Cobbe et al. 2021, arXiv 2110.14168. `read(path, target="answer")` keeps its answers in one piece.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from condition.data.formats import not_text
from condition.errors import DataError
from condition.types import Example, Message, Messages

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_END = re.compile(r"\s*^####\s*(.+?)\s*\Z", re.MULTILINE | re.DOTALL)


def is_alpaca(row: Mapping[str, Any]) -> bool:
    """True for a row with the columns of Alpaca."""
    return {"instruction", "output"} <= row.keys()


def alpaca_example(row: Mapping[str, Any], where: str) -> Example:
    """The instruction, its input and what was said before as inputs, the output as the target.

    Alpaca's `text`, the whole written out, is left out: it holds the answer.
    """
    inputs = {name: value for name, value in row.items() if name not in ("output", "text", "id")}
    if "history" in row:
        inputs["history"] = _turns(row["history"], where)
    return _example(inputs, row["output"], row, where)


def is_dolly(row: Mapping[str, Any]) -> bool:
    """True for a row with the columns of Dolly."""
    return {"instruction", "response"} <= row.keys()


def dolly_example(row: Mapping[str, Any], where: str) -> Example:
    """The instruction, its context and category as inputs, the response as the target."""
    inputs = {name: value for name, value in row.items() if name not in ("response", "id")}
    return _example(inputs, row["response"], row, where)


def is_gsm8k(row: Mapping[str, Any]) -> bool:
    """True for a question whose answer ends in `#### ` and a number."""
    answer = row.get("answer")
    return "question" in row and isinstance(answer, str) and _END.search(answer) is not None


def gsm8k_lack(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row that has GSM8K's columns; none where nothing is."""
    answer = row.get("answer")
    if not isinstance(answer, str):
        return f"'answer' is {type(answer).__name__}, not text"
    return None if _END.search(answer) else f"its 'answer' ends in no line '#### ' and a number: {answer!r:.80}"


def gsm8k_example(row: Mapping[str, Any], where: str) -> Example:
    """The question as input, the number behind `####` as target, the steps as rationale, without <<2+2=4>>."""
    steps, number = _END.split(row["answer"])[:2]
    inputs = {name: value for name, value in row.items() if name not in ("answer", "id")}
    return _example(inputs, number, row, where, rationale=_CALCULATOR.sub("", steps).strip() or None)


def _example(
    inputs: dict[str, Any], target: object, row: Mapping[str, Any], where: str, rationale: str | None = None
) -> Example:
    if not isinstance(target, str):
        raise DataError(f"{where}: {not_text('the answer', target)}")
    return Example(inputs, target, rationale, str(row["id"]) if row.get("id") is not None else where)


def _turns(history: Any, where: str) -> Messages:
    """Messages from [[what the user said, what was answered], …]."""
    found: list[Message] = []
    for pair in () if history is None else history:
        said = list(pair) if not isinstance(pair, str | Mapping) else []
        if len(said) != 2 or not all(isinstance(words, str) for words in said):
            raise DataError(
                f"{where}: 'history' should be a list of [user, assistant] pairs of texts, got {pair!r:.80}"
            )
        found += [Message("user", said[0]), Message("assistant", said[1])]
    return tuple(found)
