"""What a subject says to several rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from condition.types import Score, Usage


class Said(NamedTuple):
    """A text for each row, and what they cost."""

    texts: list[str]
    usage: Usage
    scores: tuple[tuple[Score, ...] | None, ...] = ()
    """For each row, of its choices behind the prompt and then behind each of the task's references; none if written."""
    samples: tuple[tuple[str, ...], ...] = ()
    """For each row, all texts that the task's `sampling.n` asked for, the first one as in `texts`."""
    errors: Mapping[int, str] = {}
    """By row: why a chain has no answer, or only a part of one."""
    turns: tuple[tuple[str, ...], ...] = ()
    """For each row of a conversation, its replies in their order."""
