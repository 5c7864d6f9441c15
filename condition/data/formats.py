"""Schemas that are recognised by their columns. SQuAD v2: Rajpurkar et al. 2018, arXiv 1806.03822."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from condition.errors import DataError
from condition.types import Example

NO_ANSWER = "unanswerable"
"""What a model is taught to say where the passage does not hold the answer."""

PRINTED = re.compile(r"""\s*(\{\s*['"](text|answer_start)['"]\s*:|\[\s*(['"]|\]\s*$))""")
"""How a cell begins that should have been a list: as text it would be taught word by word."""


def is_abstention(text: str, no_answer: str = NO_ANSWER) -> bool:
    """True for a text that says nothing but `no_answer`, or nothing at all."""
    return text.strip().strip(".!\"'").lower() in ("", no_answer.lower())


def is_squad(row: Mapping[str, Any]) -> bool:
    """True for a row with the columns of SQuAD."""
    return {"context", "question", "answers"} <= row.keys()


def squad_paragraphs(data: Any, where: str) -> Iterator[dict[str, Any]]:
    """Flat rows, as on the Hugging Face hub, from the nested original file."""
    try:
        for article in data:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    yield {
                        "id": qa["id"],
                        "title": article.get("title", ""),
                        "context": paragraph["context"],
                        "question": qa["question"],
                        "answers": {
                            "text": [a["text"] for a in qa["answers"]],
                            "answer_start": [a["answer_start"] for a in qa["answers"]],
                        },
                    }
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: looks like SQuAD but breaks its schema: {error!r}") from error


def squad_answers(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The gold answers of a row; empty where it has none. A gold answer of white space is none.

    A plain string, as in a CSV cell, is the one answer. Raises DataError for other types, and for a printed list.
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
    return tuple(text for text in texts if text.strip())


def squad_example(row: Mapping[str, Any], where: str) -> Example:
    """Passage and question as inputs, the first gold answer, or `NO_ANSWER`, as the target."""
    for name in ("context", "question"):
        if not isinstance(row[name], str):
            raise DataError(f"{where}: {name!r} is {type(row[name]).__name__}, not text")
    answers = squad_answers(row, where)
    inputs = {name: value for name, value in row.items() if name not in ("answers", "id")}
    return Example(inputs, answers[0] if answers else NO_ANSWER, id=str(row.get("id", where)))
