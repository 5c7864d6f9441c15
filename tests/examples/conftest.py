"""Rows of few tokens, for what an example does with rows of its user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BUILT = "mill bridge inn tower barn wall chapel well gate pier school dam kiln forge market fort oven shed arch lock"


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl and validation.jsonl as SQuAD v2 has them: two questions a passage, one answerable."""
    folder = tmp_path_factory.mktemp("short")
    words = BUILT.split()
    for name, things in (("train", words[:15]), ("validation", words[15:])):
        rows = []
        for number, thing in enumerate(things):
            year, context = str(1700 + 7 * number), f"The {thing} was built in {1700 + 7 * number}."
            answers = {"text": [year], "answer_start": [context.index(year)]}
            rows.append({"context": context, "question": f"When was the {thing} built?", "answers": answers})
            none = {"text": [], "answer_start": []}
            rows.append({"context": context, "question": f"Who owns the {thing}?", "answers": none})
        lines = [json.dumps({"id": f"{name}-{number}", **row}) for number, row in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder
