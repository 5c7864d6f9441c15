"""BIG-Bench Hard: 27 tasks on which thinking step by step helps. Suzgun et al. 2022, arXiv 2210.09261."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation.metrics.texts import accuracy
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.shots import Form, asked
from condition.evaluation.tasks.task import Task, TaskRow
from condition.types import Example, Sampling

THINK = "Let's think step by step."
_SAID = re.compile(r".*\banswer is:?\s*([^\n]+?)\.?\s*(?:\n|$)", re.IGNORECASE | re.DOTALL)


def bbh(
    path_or_rows: object,
    /,
    *,
    cot: str | Path | Mapping[str, str] | None = None,
    k: int = 3,
    form: Form = "text",
    max_tokens: int = 384,
) -> Task:
    """BIG-Bench Hard: rows with `task`, `input` and `target`; or the original files, or their folder, named by task.

    `cot` is the folder of the original chain-of-thought prompts, or their texts by task; without it the bare answer is
    asked for. What follows the last "the answer is" counts, else the whole reply. Reported for each task too.
    """
    texts = _texts(cot)
    rows = []
    for row, where in _rows(path_or_rows):
        name = field(row, where, "task")
        if texts and name not in texts:
            raise DataError(f"{where}: no chain-of-thought prompt for {name!r}; there are {', '.join(sorted(texts))}")
        told = _told(texts[name]) if texts else ""
        inputs = {"input": field(row, where, "input"), "task": name, "told": told}
        rows.append(TaskRow(f"{name} {where}", inputs, field(row, where, "target"), choices=()))
    shots = [
        shot
        for name in dict.fromkeys(row.inputs["task"] for row in rows)
        if texts
        for shot in _shots(name, texts, form)
    ]
    question = "Q: {input}\nA:" + (f" {THINK}" if texts else "")
    return Task(
        "bbh",
        rows,
        _metric,
        prompt=asked(form, question, shots, instruction="{told}" if texts else None, k=k, same="task"),
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0, stop=("\n\nQ:", "Q:") if form == "text" else ()),
        splits=lambda row: (row.inputs["task"],),
    )


def _metric(prediction: str, target: Any, /) -> Mapping[str, float]:
    said = _SAID.match(prediction)
    return accuracy(said[1] if said else prediction, target)


def _rows(source: object) -> Iterator[tuple[Mapping[str, Any], str]]:
    paths = (
        sorted(Path(source).glob("*.json")) if isinstance(source, str | Path) and Path(source).is_dir() else [source]
    )
    if not paths:
        raise DataError(f"{source}: no .json files in this folder")
    for path in paths:
        if isinstance(path, str | Path) and Path(path).suffix == ".json" and Path(path).is_file():
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if isinstance(content, dict) and "examples" in content:  # the original files
                name = Path(path).stem
                yield from (({"task": name, **row}, f"{path}: row {i}") for i, row in enumerate(content["examples"]))
                continue
        yield from locate(path)


def _texts(cot: str | Path | Mapping[str, str] | None) -> dict[str, str]:
    if cot is None:
        return {}
    if isinstance(cot, Mapping):
        return dict(cot)
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(cot).glob("*.txt"))}
    if not found:
        raise DataError(f"{cot}: no .txt files: give the folder of the original cot-prompts")
    return found


def _parts(text: str) -> list[str]:
    """What a prompt file tells, and its worked questions; the canary above the line is left out."""
    bare = text.rpartition("-----\n")[2].strip()
    return re.split(r"\n+(?=Q: )", bare)


def _told(text: str) -> str:
    return _parts(text)[0].strip()


def _shots(name: str, texts: Mapping[str, str], form: Form) -> Iterator[Example]:
    for number, part in enumerate(_parts(texts[name])[1:]):
        question, found, answer = part.removeprefix("Q: ").partition("\nA:")
        worked = answer.strip().removeprefix(THINK)  # goes on with the line break of the original
        if not found or not worked.strip():
            raise DataError(f"the chain-of-thought prompt of {name}, question {number}: expected 'Q: …' and 'A: …'")
        yield Example({"input": question.strip(), "task": name}, worked.strip() if form == "chat" else worked)
