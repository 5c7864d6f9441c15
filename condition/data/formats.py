"""Schemas that are recognised by their columns. SQuAD v2: Rajpurkar et al. 2018, arXiv 1806.03822."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from condition.errors import DataError
from condition.types import Example

NO_ANSWER = "unanswerable"
"""What a model is taught to say where the passage does not hold the answer."""

PRINTED = re.compile(r"""\s*(\{\s*['"](text|answer_start)['"]\s*:|\[\s*(['"]|\]\s*$))""")
"""How a cell begins that should have been a list: as text it would be taught word by word."""


IMPOSSIBLE = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
"""What SQuAD's `is_impossible` says, however it was written."""


def is_abstention(text: str, no_answer: str = NO_ANSWER) -> bool:
    """True for a text that says nothing but `no_answer`, or nothing at all."""
    return text.strip().strip(".!\"'").lower() in ("", no_answer.lower())


def not_text(what: str, value: object) -> str:
    """What to say of a target that is no text, and what to do."""
    said = f"{what} is {type(value).__name__}, not text: {value!r:.80}"
    if value is None:
        return f"{said}; write what should be said, or drop the row"
    if isinstance(value, bool | int | float):
        return f"{said}; write it as text, {str(value)!r}, or as the word that the model should say for it"
    return f"{said}; write it as one text"


def is_squad(row: Mapping[str, Any]) -> bool:
    """True for a row with the columns of SQuAD."""
    return {"context", "question", "answers"} <= row.keys()


def check_possible(impossible: object, texts: Iterable[object], where: str) -> None:
    """Raises DataError where `is_impossible` says the opposite of the answers; a row without it says nothing."""
    said = IMPOSSIBLE.get(str(impossible).strip().lower())  # a CSV file and pandas have their own words for it
    given = [text for text in texts if not isinstance(text, str) or text.strip()]
    if said is True and given:
        raise DataError(
            f"{where} has the answer {given[0]!r:.80} and says 'is_impossible' too: take the answer out, or set "
            "'is_impossible' to false (what only looks like an answer stands in 'plausible_answers')"
        )
    if said is False and not given:
        raise DataError(
            f"{where} has no answer, but 'is_impossible' is false: were the answers taken out, as of a test file? "
            f"Write them, or set 'is_impossible' to true; it would be read as {NO_ANSWER!r}"
        )


def squad_answers(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The gold answers of a row; empty where it has none. A gold answer of white space is none.

    A plain string, as in a CSV cell, is the one answer. Raises DataError for other types, for a printed list, and
    where `is_impossible` says the opposite.
    """
    answers = row["answers"]
    texts: Any = answers.get("text") if isinstance(answers, Mapping) else answers
    if hasattr(texts, "tolist"):  # pandas keeps the lists of a Parquet file as arrays
        texts = texts.tolist()
    if isinstance(answers, str):
        if PRINTED.match(answers):
            raise DataError(
                f"{where}: 'answers' is a list or dictionary printed into a cell, {answers!r:.80}: "
                "save the rows as JSON lines or Parquet, or write the answer alone"
            )
        texts = [answers]
    if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
        raise DataError(
            f"{where}: 'answers' should be {{'text': [...], 'answer_start': [...]}}, a list of strings, "
            f"or one string (empty for no answer), got {answers!r:.80}"
        )
    check_possible(row.get("is_impossible"), texts, f"{where}: the row{_identified(row)}")
    return tuple(text for text in texts if text.strip())


def _identified(row: Mapping[str, Any]) -> str:
    return "" if row.get("id") is None else f" with the id {row['id']!r}"


def squad_example(row: Mapping[str, Any], where: str) -> Example:
    """Passage and question as inputs, the first gold answer, or `NO_ANSWER`, as the target."""
    for name in ("context", "question"):
        if not isinstance(row[name], str):
            raise DataError(f"{where}: {name!r} is {type(row[name]).__name__}, not text")
    answers = squad_answers(row, where)
    inputs = {name: value for name, value in row.items() if name not in ("answers", "id")}
    return Example(inputs, answers[0] if answers else NO_ANSWER, id=str(row.get("id", where)))
