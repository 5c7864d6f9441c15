"""Rows of multiple choice, however the original files name their columns.

question, choices ["…", …], answer 2                            MMLU, on the hub
question, A, B, C, D, answer "C"                                C-Eval, CMMLU, the original MMLU with a header
question, choices {"text": […], "label": […]}, answerKey "C"    ARC, CommonsenseQA
ctx, endings, label "2"                                         HellaSwag
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from condition.data.files import Located
from condition.data.read import locate
from condition.errors import DataError

QUESTIONS = ("question", "Question", "ctx", "input", "sentence", "text")
CHOICES = ("choices", "options", "endings")
ANSWERS = ("answer", "Answer", "answerKey", "label", "correct", "target", "gold")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ChoiceRow(NamedTuple):
    """A question with its choices and the place of the right one."""

    id: str
    question: str
    choices: tuple[str, ...]
    correct: int
    subject: str
    where: str


def choice_rows(source: object) -> Iterator[ChoiceRow]:
    """Rows of a file, a folder of files with a subject each, a Dataset or a list.

    Raises DataError for a row without question, choices or answer, and for an answer that is none of the choices.
    """
    for located, subject in _located(source):
        yield _row(located.row, located.where, subject)


def _located(source: object) -> Iterator[tuple[Located, str]]:
    if not isinstance(source, str | Path):
        yield from ((located, "") for located in locate(source))
        return
    path = Path(source)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no .csv files in this folder")
    for file in files:
        subject = file.stem
        for ending in ("_test", "_val", "_dev", "_validation"):
            subject = subject.removesuffix(ending)
        named = subject if path.is_dir() or subject != file.stem else ""
        yield from ((located, named) for located in (_headless(file) or locate(file)))


def _headless(path: Path) -> list[Located]:
    """Rows of the original MMLU: question, four choices and a letter, without a header. Empty for other files."""
    if path.suffix != ".csv" or not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row]
    first = [cell.strip() for cell in rows[0]] if rows else []
    if len(first) < 4 or first[-1] not in list(LETTERS[: len(first) - 2]) or {*QUESTIONS, *ANSWERS} & {*first[:-1]}:
        return []
    return [
        Located({"question": row[0], "choices": row[1:-1], "answer": row[-1]}, f"{path}: row {i}")
        for i, row in enumerate(rows)
    ]


def _row(row: Mapping[str, Any], where: str, subject: str) -> ChoiceRow:
    question = _column(row, QUESTIONS, where, "a question")
    choices, labels = _choices(row, where)
    answer = _column(row, ANSWERS, where, "an answer")
    identity = next((str(row[name]) for name in ("id", "ind", "question_id") if row.get(name) is not None), where)
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: the question is empty or no text: {question!r:.60}")
    named = str(row.get("subject") or row.get("category") or subject).replace("_", " ")
    return ChoiceRow(identity, question.strip(), choices, _correct(answer, choices, labels, where), named, where)


def _column(row: Mapping[str, Any], names: Sequence[str], where: str, what: str) -> Any:
    found = next((name for name in names if row.get(name) is not None), None)
    if found is None:
        raise DataError(
            f"{where}: {what} is expected under {' or '.join(map(repr, names))}; "
            f"this row has {', '.join(map(repr, row))}"
        )
    return row[found]


def _choices(row: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], list[str]]:
    """The choices, and what the file calls them."""
    given = next((row[name] for name in CHOICES if row.get(name) is not None), None)
    labels: list[str] = []
    if given is None:
        given = [row[letter] for letter in LETTERS if row.get(letter) is not None]
    if isinstance(given, Mapping) and "text" in given:
        labels = [str(label) for label in given.get("label", ())]
        given = given["text"]
    if hasattr(given, "tolist"):  # pandas keeps lists as arrays
        given = given.tolist()
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) < 2:
        raise DataError(
            f"{where}: two choices or more are expected as a list under {' or '.join(map(repr, CHOICES))}, or under "
            f"'A', 'B', …; got {given!r:.60}"
        )
    texts = tuple(str(choice).strip() for choice in given)
    if not all(texts):
        raise DataError(f"{where}: a choice is empty: {texts!r:.80}")
    return texts, labels or list(LETTERS[: len(texts)])


def _correct(answer: Any, choices: tuple[str, ...], labels: list[str], where: str) -> int:
    said = str(answer).strip()
    if isinstance(answer, int) and not isinstance(answer, bool):
        if 0 <= answer < len(choices):
            return answer
    elif said in labels:
        return labels.index(said)
    elif said in choices:
        return choices.index(said)
    elif said.isdigit() and int(said) < len(choices):
        return int(said)
    raise DataError(
        f"{where}: the answer {answer!r:.60} is none of the {len(choices)} choices, by place, letter or text"
    )
