"""Rows as the network reads them: rendered once, checked before any work is done."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from condition.data.duplicates import plain, words_of_inputs
from condition.data.preference_columns import BESIDE
from condition.data.read import RESERVED, column_hint, read
from condition.errors import DataError, PromptError
from condition.models.local import LocalModel
from condition.models.trim import trim
from condition.prompts.fill import fill
from condition.prompts.template import LangChainPrompt
from condition.protocols import Prompt
from condition.training.limits import limit_of, over_limit
from condition.training.settings import Settings
from condition.types import Example, Rendered

log = logging.getLogger("condition")


class Row(NamedTuple):
    """A prompt with what should follow; tokens from `start` on are trained."""

    ids: tuple[int, ...]
    start: int
    weight: float = 1.0
    """How much its tokens count."""

    @property
    def labels(self) -> tuple[int, ...]:
        return self.ids[self.start :]


class Trained(Protocol):
    """A row of any kind, as batches are made of."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens by which rows that begin alike are found."""
        ...

    @property
    def start(self) -> int:
        """Where the prompt ends."""
        ...

    @property
    def labels(self) -> tuple[int, ...]:
        """One entry for each thing that the loss is a mean of: a token, or a pair."""
        ...


class Origin(NamedTuple):
    """Where a row comes from, and hashes of what it says."""

    name: str
    """Its number in the data as they are read, and its id if it has one."""
    key: str
    """Rows of the same key say the same, whatever their case and white space."""
    prompt: str = ""
    """Rows of the same inputs, likewise; empty where there are none."""
    exact: str = ""
    """Rows of the same hash are the same to the letter, with all that they are trained by."""


@dataclass(frozen=True)
class Prepared:
    """Rows ready to train on, and what was done to get them."""

    rows: Sequence[Trained]
    dropped: int
    trimmed: int
    origins: Sequence[Origin] = ()
    """Of each row, where it is known."""

    @property
    def digest(self) -> str:
        """Hash of all rows, in their order."""
        return _hash(list(self.rows))

    @property
    def says(self) -> str | None:
        """Hash of what the rows are, whatever the prompt; none where their origins are not known."""
        return _hash([origin.exact for origin in self.origins]) if self.origins else None


def prepare(
    model: LocalModel, data: object, prompt: Prompt, settings: Settings, what: str = "training", taken: int = 0
) -> Prepared:
    """Render rows; `taken` are the tokens that an adapter puts before each.

    Raises DataError for no rows, a missing column or value, a prompt that uses no column, and a row over the limit
    without a policy.
    """
    limit = limit_of(model, settings, taken)
    rows: list[Row] = []
    origins: list[Origin] = []
    dropped = trimmed = 0
    for number, example in enumerate(read(data)):
        name = row_name(number, example.id)
        origin = origin_of(name, prompt, example.inputs, [example.target], example.weight)
        rendered = render(model, example, prompt, f"{what} {name}")
        excess = len(rendered.ids) - limit
        if excess <= 0:
            rows.append(Row(rendered.ids, len(rendered.prompt_ids), example.weight))
            origins.append(origin)
            continue
        if settings.too_long == "raise":
            raise DataError(over_limit(f"{what} {name}", len(rendered.ids), model, settings, taken))
        short = trim(rendered, limit) if settings.too_long == "trim" else None
        trimmed += short is not None
        dropped += short is None
        if short is not None:
            rows.append(Row(short.ids, len(short.prompt_ids), example.weight))
            origins.append(origin)
    if dropped or trimmed:
        log.warning("%s rows over %s tokens: %s dropped, %s trimmed", what, limit, dropped, trimmed)
    if not rows:
        raise DataError(f"no {what} rows{' left: all were too long' if dropped else ': the data is empty'}")
    return Prepared(rows, dropped, trimmed, origins)


def row_name(number: int, id: str | None) -> str:
    """What messages call a row: its number in the data as they are read, and its id if it has one."""
    place = f"row {number}"
    return f"{place} ({id})" if id and id != place else place


def origin_of(
    name: str, prompt: Prompt, inputs: Mapping[str, Any], texts: Sequence[str], beside: object = None
) -> Origin:
    """Of a row with texts behind a prompt. Inputs that it leaves out make no other row.

    `beside`: what else the row is trained by, of which its words say nothing.
    """
    words = words_of_inputs(inputs, prompt.variables)
    return Origin(
        name,
        key=_hash((words, *map(plain, texts))),
        prompt=_hash(words) if words else "",
        exact=_hash((sorted(inputs.items()), *texts, beside)),
    )


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def render(model: LocalModel, example: Example, prompt: Prompt, where: str, *, is_opinion: bool = False) -> Rendered:
    """An example behind its prompt. `is_opinion`: it is of a Ranking or Feedback, which other readers read.

    Raises DataError that says where, for what does not fit the prompt.
    """
    missing = prompt.variables - example.inputs.keys()
    if missing and getattr(prompt, "inputs", None) is None:  # an input model may have defaults
        raise DataError(
            f"{where}: the prompt needs the column{'s' if len(missing) > 1 else ''} {_names(missing)}; "
            f"the row has {_names(example.inputs) or 'none'}{_advice(missing, prompt, example, is_opinion)}"
        )
    try:
        if example.inputs and not _uses_inputs(prompt):
            raise DataError(
                f"{where}: the prompt uses none of the columns {_names(example.inputs)}, so all rows would read alike. "
                f"{_unused(prompt)}"
            )
        return model.render(fill(prompt, example.inputs), example.target)
    except PromptError as error:
        raise DataError(f"{where}: {error}") from error


def _advice(missing: Set[str], prompt: Prompt, example: Example, is_opinion: bool) -> str:
    if reserved := sorted(missing & set(BESIDE if is_opinion else RESERVED)):
        are = f"{_names(reserved)} {'are' if len(reserved) > 1 else 'is'} reserved for the row itself and no input"
        if is_opinion:
            return f". {are} of a Ranking or Feedback: copy it to a column of another name, and ask for that"
        return f". {are} unless asked for: read(path, inputs={sorted(prompt.variables)})"
    return "".join(column_hint(name, example.inputs) for name in sorted(missing))


def _uses_inputs(prompt: Prompt) -> bool:
    # an optional placeholder of LangChain's is no variable, and takes its value all the same
    optional = isinstance(prompt, LangChainPrompt) and prompt.to_langchain().optional_variables
    return bool(prompt.variables or optional)


def _unused(prompt: Prompt) -> str:
    """What to do with a prompt that uses no variable."""
    words = " ".join(message.content for message in prompt.format())
    if braces := re.search(r"\{+ *\w+ *\}+", words):
        return (
            f"{braces[0]!r} stands in it as words. A Jinja template, {{{{ name }}}}, needs "
            "ChatPrompt(..., template_format='jinja2'); a Message is taken as it is, a (role, template) pair is filled"
        )
    return "Write a column's name into it, in braces; if that is meant, take no inputs: read(rows, inputs=[])"


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


@dataclass(frozen=True)
class Batch:
    """Rows that go through the network together. An object of its own, so that nobody moves or pads its lists."""

    rows: tuple[Trained, ...]

    @property
    def items(self) -> float:
        """What the loss is a mean of: its labels, each as often as its row's weight says."""
        return sum(len(row.labels) * float(getattr(row, "weight", 1.0)) for row in self.rows)


def collate(rows: Sequence[Trained]) -> dict[str, Any]:
    """A batch, with the labels of its rows beside it: they are what transformers counts to scale the loss."""
    return {"batch": Batch(tuple(rows)), "labels": torch.tensor([label for row in rows for label in row.labels])}
