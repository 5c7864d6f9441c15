"""Judgments of single completions that are recognised by their columns.

judgment, score                      MT-bench's single answers, graded (Zheng et al. 2023, arXiv 2306.05685)
messages, label; completion, label   one completion with a thumb, a grade or words
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from condition.data.preference_columns import BESIDE, NoRating, Row, identity_of, inputs_of, is_number, split_turns
from condition.errors import DataError
from condition.types import Feedback, Message

SAID = ("label", "said", "feedback", "rating", "score")
"""Columns that hold what somebody thought of a completion; the first that is there counts."""
THUMBS = {"true": True, "yes": True, "up": True, "👍": True, "false": False, "no": False, "down": False, "👎": False}
_SINGLE = re.compile(
    r"\[Question\]\n(.*?)\n\n(?:\[The Start of Reference Answer\].*?\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant's Answer\]\n(.*?)\n\[The End of Assistant's Answer\]",
    re.DOTALL,
)
_TURNS = re.compile(r"### (User|Assistant A):\n(.*?)\n\n(?=###|<\|The End)", re.DOTALL)


def _one_completion(row: Row, where: str) -> Feedback:
    said = _said(row)
    others = {k: v for k, v in row.items() if k not in ("completion", *SAID, *BESIDE)}
    given = row["completion"] if "completion" in row else row["messages"]
    if isinstance(given, str):
        return Feedback(inputs_of(others, (), where, (given,)), given, said, identity_of(row))
    before, completion = split_turns(given, where)
    if "completion" not in row:
        others.pop("messages")
    return Feedback(inputs_of(others, before, where, (completion,)), completion, said, identity_of(row))


def _said(row: Row) -> Any:
    """What somebody thought: a thumb or a grade too where the file, such as a CSV file, holds words only."""
    name = next(name for name in SAID if name in row)
    if name == "feedback" or not isinstance(row[name], str):
        return row[name]
    word = row[name].strip().lower()
    return THUMBS.get(word, float(word) if is_number(word) else row[name])


def _judged_single(row: Row, where: str) -> Feedback:
    if float(row["score"]) < 0:
        raise NoRating
    if found := _SINGLE.search(row["user_prompt"]):
        question, answer = (part.strip() for part in found.groups())
        return Feedback({"question": question}, answer, float(row["score"]), identity_of(row))
    turns = [
        Message("user" if who == "User" else "assistant", said.strip())
        for who, said in _TURNS.findall(row["user_prompt"])
    ]
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise DataError(f"{where}: no question and answer are found in 'user_prompt'")
    return Feedback({"history": tuple(turns[:-1])}, turns[-1].content, float(row["score"]), identity_of(row))


FEEDBACK: tuple[tuple[Callable[[Row], bool], Callable[[Row, str], Feedback]], ...] = (
    (lambda row: {"user_prompt", "judgment", "score"} <= row.keys(), _judged_single),
    (lambda row: bool({"completion", "messages"} & row.keys()) and any(name in row for name in SAID), _one_completion),
)
