"""Rows that say the same: twice in one set, or in a training set and the one that it is measured on.

Two rows are the same where their words are, whatever their case, white space and form of Unicode. Several questions on
one passage are several rows.

    repeated(rows)                 # groups of indices
    shared(train, validation)      # pairs of indices
    distinct(rows)                 # the first of each
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from condition.types import Example, Message


class Pair(NamedTuple):
    """Where a row of one set stands in another."""

    row: int
    other: int


def repeated(rows: Sequence[Example], variables: Set[str] | None = None) -> list[tuple[int, ...]]:
    """Indices of rows that say the same, a group each. `variables`: the inputs that count, all where not given."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(words_of(row, variables), []).append(index)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def shared(rows: Iterable[Example], others: Iterable[Example], variables: Set[str] | None = None) -> list[Pair]:
    """Rows that stand in both sets: the index in each."""
    places: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(others):
        places.setdefault(words_of(row, variables), index)
    found = ((index, places.get(words_of(row, variables))) for index, row in enumerate(rows))
    return [Pair(index, other) for index, other in found if other is not None]


def distinct(rows: Sequence[Example], variables: Set[str] | None = None) -> list[Example]:
    """The rows without those that said the same before."""
    again = {index for group in repeated(rows, variables) for index in group[1:]}
    return [row for index, row in enumerate(rows) if index not in again]


def words_of(row: Example, variables: Set[str] | None = None) -> tuple[str, ...]:
    """What a row says, without case, white space and form: its inputs by name, then its target."""
    return (*words_of_inputs(row.inputs, variables), plain(row.target))


def words_of_inputs(inputs: Mapping[str, Any], variables: Set[str] | None = None) -> tuple[str, ...]:
    """What inputs say, by name."""
    names = sorted(inputs if variables is None else variables & inputs.keys())
    return tuple(f"{name}\0{plain(inputs[name])}" for name in names)


def plain(value: Any) -> str:
    """Words without case, white space and form."""
    if isinstance(value, Message):
        return f"{value.role}\0{plain(value.content)}"
    if isinstance(value, list | tuple):
        return "\0".join(map(plain, value))
    return " ".join(unicodedata.normalize("NFKC", str(value)).casefold().split())
