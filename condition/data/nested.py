"""SQuAD's own file: articles of paragraphs of questions. Rajpurkar et al. 2018, arXiv 1806.03822."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from condition.data.formats import check_possible
from condition.errors import DataError


def squad_paragraphs(data: Any, where: str) -> Iterator[dict[str, Any]]:
    """Flat rows, as on the Hugging Face hub, from the nested original file.

    Raises DataError that names the article, the paragraph and the question where a part is missing, of another type,
    or says the opposite of another: `is_impossible` beside an answer.
    """
    broken = f"{where}: looks like SQuAD but breaks its schema: "
    for number, article in enumerate(_listed(data, f"{broken}'data'")):
        place = f"{broken}article {number}"
        for at, paragraph in enumerate(_listed(_part(article, "paragraphs", place), f"{place}: 'paragraphs'")):
            here = f"{place}, paragraph {at}"
            context = _part(paragraph, "context", here)
            for which, qa in enumerate(_listed(_part(paragraph, "qas", here), f"{here}: 'qas'")):
                identity = _part(qa, "id", f"{here}, question {which}")
                asked = f"{here}, question {which} (id {identity!r})"
                answers = _listed(_part(qa, "answers", asked), f"{asked}: 'answers'")
                texts = [_part(answer, "text", f"{asked}, answer {n}") for n, answer in enumerate(answers)]
                starts = [_part(answer, "answer_start", f"{asked}, answer {n}") for n, answer in enumerate(answers)]
                check_possible(
                    qa.get("is_impossible"),
                    texts,
                    f"{where}: question {which} of article {number}, paragraph {at} (id {identity!r})",
                )
                yield {
                    "id": identity,
                    "title": article.get("title", ""),
                    "context": context,
                    "question": _part(qa, "question", asked),
                    "answers": {"text": texts, "answer_start": starts},
                }


def _part(of: Any, name: str, place: str) -> Any:
    """A named part of an object of the file."""
    if not isinstance(of, Mapping):
        raise DataError(f"{place} is {type(of).__name__}, not an object with {name!r}")
    if name not in of:
        advice = ". Rows that are no SQuAD are a list of their own, without 'data'" if name == "paragraphs" else ""
        raise DataError(f"{place} has no {name!r}, only {', '.join(map(repr, of)) or 'nothing'}{advice}")
    return of[name]


def _listed(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise DataError(f"{place} is {type(value).__name__}, not a list")
    return list(value)
