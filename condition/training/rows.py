"""Rows as the network reads them: rendered once, checked before any work is done."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from condition.data.read import read
from condition.errors import DataError, PromptError
from condition.models.local import LocalModel
from condition.models.trim import trim
from condition.prompts.fill import fill
from condition.protocols import Prompt
from condition.training.settings import Settings
from condition.types import Example, Rendered

log = logging.getLogger("condition")


class Row(NamedTuple):
    """A prompt with what should follow; tokens from `start` on are trained."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Prepared:
    """Rows ready to train on, and what was done to get them."""

    rows: list[Row]
    dropped: int
    trimmed: int

    @property
    def digest(self) -> str:
        """Hash of all rows, in their order."""
        return hashlib.sha256(repr(self.rows).encode()).hexdigest()


def prepare(model: LocalModel, data: object, prompt: Prompt, settings: Settings, what: str = "training") -> Prepared:
    """Render rows. Raises DataError for no rows, a missing column, or a row over the limit without a policy."""
    limit = min(settings.max_length or model.context, model.context)
    rows: list[Row] = []
    dropped = trimmed = 0
    for number, example in enumerate(read(data)):
        rendered = _render(model, example, prompt, f"{what} row {number} ({example.id})")
        excess = len(rendered.ids) - limit
        if excess <= 0:
            rows.append(Row(rendered.ids, len(rendered.prompt_ids)))
            continue
        if settings.too_long == "raise":
            raise DataError(
                f"{what} row {number} ({example.id}) has {len(rendered.ids):,} tokens, the limit is {limit:,}. Choose: "
                f"Settings(too_long='drop'), too_long='trim' to cut the longest message, or a larger max_length"
            )
        short = trim(rendered, limit) if settings.too_long == "trim" else None
        trimmed += short is not None
        dropped += short is None
        rows += [Row(short.ids, len(short.prompt_ids))] if short else []
    if dropped or trimmed:
        log.warning("%s rows over %s tokens: %s dropped, %s trimmed", what, limit, dropped, trimmed)
    if not rows:
        raise DataError(f"no {what} rows{' left: all were too long' if dropped else ': the data is empty'}")
    return Prepared(rows, dropped, trimmed)


def _render(model: LocalModel, example: Example, prompt: Prompt, where: str) -> Rendered:
    missing = prompt.variables - example.inputs.keys()
    if missing and getattr(prompt, "inputs", None) is None:  # an input model may have defaults
        raise DataError(
            f"{where}: the prompt needs the column {_names(missing)}; the row has {_names(example.inputs) or 'none'}"
        )
    try:
        return model.render(fill(prompt, example.inputs), example.target)
    except PromptError as error:
        raise DataError(f"{where}: {error}") from error


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


@dataclass(frozen=True)
class Batch:
    """Rows that go through the network together. An object of its own, so that nobody moves or pads its lists."""

    rows: tuple[Row, ...]


def collate(rows: Sequence[Row]) -> dict[str, Any]:
    """A batch, with the trained tokens `[tokens]` beside it: they are what transformers counts to scale the loss."""
    return {"batch": Batch(tuple(rows)), "labels": torch.tensor([t for row in rows for t in row.ids[row.start :]])}
