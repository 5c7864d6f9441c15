"""Answers on disk: what a subject said is asked for once, and a run that was killed goes on where it was.

folder/<hash of the subject and the sampling>.jsonl     a line a batch: each row's hash, what was said, what it cost

What is stored does not depend on the metric: another metric over the same rows asks nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from condition.errors import DataError, SettingsError
from condition.evaluation.tasks.task import Reply
from condition.types import Messages, Score, Usage

log = logging.getLogger("condition")

UNNAMED = (
    "nothing is kept in %s: a %s does not tell on what its answers depend. Name it, %s, and change the name when "
    "it changes"
)
UNKEPT = "unkept "
"""How the name of a row begins that is remembered in this run only."""


class Cost(NamedTuple):
    """What a batch cost, and how many rows it answered."""

    usage: Usage
    seconds: float
    rows: int


class Kept(NamedTuple):
    """A row's reply, and the batch that it was answered in."""

    reply: Reply
    batch: int


@final
class Answers:
    """The answers of one subject under one sampling, in `folder`; in memory only where it is None."""

    def __init__(self, folder: str | Path | None, subject: str) -> None:
        self.path = None if folder is None else Path(folder) / f"{subject}.jsonl"
        self.costs: list[Cost] = []
        self.rows: dict[str, Kept] = {}
        if self.path is not None:
            _check_folder(self.path.parent)
            self._read(self.path)

    def add(self, replies: Mapping[str, Reply], usage: Usage, seconds: float) -> None:
        """Keep a batch; on disk it is whole, or not there."""
        if not replies:
            return
        self._take(replies, usage, seconds)
        lasting = {row: _written(reply) for row, reply in replies.items() if not row.startswith(UNKEPT)}
        if self.path is None or not lasting:
            return
        line = {
            "rows": lasting,
            "usage": usage.model_dump(),
            "seconds": seconds,
        }
        try:
            # One write at the end of the file: beside another process, and after a line that was cut off.
            with self.path.open("ab") as file:
                file.write(b"\n" + json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk: what was said is not lost for that
            log.warning("no more answers are kept in %s, and this run goes on without: %s", self.path, error)
            self.path = None

    def _take(self, replies: Mapping[str, Reply], usage: Usage, seconds: float) -> None:
        self.costs.append(Cost(usage, seconds, len(replies)))
        for row, reply in replies.items():
            self.rows.setdefault(row, Kept(reply, len(self.costs) - 1))

    def _read(self, path: Path) -> None:
        if not path.is_file():
            return
        for line in path.read_bytes().splitlines():
            try:
                told = json.loads(line)
                replies = {row: _read(*reply) for row, reply in told["rows"].items()}
                usage, seconds = Usage(**told["usage"]), float(told["seconds"])
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a line that a kill cut off: its rows are asked again
            self._take(replies, usage, seconds)


def row_hash(content: Any) -> str | None:
    """Of what a row asks; None for what JSON does not hold exactly, which can't be told apart for sure."""
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        if json.loads(text) != content:
            return None
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def as_json(messages: Messages) -> list[Any]:
    """Messages with all that tells them apart, as JSON holds it."""
    return [[m.role, m.content, [list(span) for span in m.values]] for m in messages]


def _written(reply: Reply) -> list[Any]:
    scores = None if reply.scores is None else [[s.logprob, s.tokens, s.chars] for s in reply.scores]
    return [reply.text, scores, list(reply.samples), *([list(reply.turns)] if reply.turns else [])]


def _read(text: str, scores: list[list[Any]] | None, samples: list[str], turns: Sequence[str] = ()) -> Reply:
    found = None if scores is None else tuple(Score(*score) for score in scores)
    return Reply(text, found, tuple(samples), tuple(turns))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"cache={str(folder)!r} is a file: give a folder for what was answered")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cache={str(folder)!r} can't be made: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"cache={str(folder)!r} can't be written: give another folder for what is answered")
