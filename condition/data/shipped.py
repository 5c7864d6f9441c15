"""The rows that the project ships and wrote itself.

Passages of many kinds with questions, a third of them unanswerable. The evaluation passages are of other
kinds (manuals, notices, letters …) than the training ones (histories, crafts …).
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any, Literal

from condition.data.read import locate


def sample(split: Literal["train", "validation"] = "train") -> list[dict[str, Any]]:
    """Rows with the columns of SQuAD v2: id, title, context, question, answers."""
    with as_file(files("condition.data") / "sample" / f"{split}.json") as path:
        return [dict(located.row) for located in locate(path)]
