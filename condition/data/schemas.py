"""The schemas that `read` knows by their columns, and what a row lacks that is nearly of one.

known_schema({"question": "1 + 2?", "answer": "3"})      None
advice({"question": "1 + 2?", "answer": "3"}, None)      ". If it is meant as GSM8K: its 'answer' ends in no line …"
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from condition.data.conversations import COLUMNS, conversation_examples, conversation_lack, is_conversation
from condition.data.formats import is_squad, squad_example
from condition.data.instructions import (
    alpaca_example,
    dolly_example,
    gsm8k_example,
    gsm8k_lack,
    is_alpaca,
    is_dolly,
    is_gsm8k,
)
from condition.types import Example

Row = Mapping[str, Any]


class Schema(NamedTuple):
    """How rows of one kind are known and read."""

    name: str
    fits: Callable[[Row], bool]
    examples: Callable[[Row, str], Iterator[Example]]
    columns: tuple[str, ...]
    """Those that a row must have."""
    usual: tuple[str, ...] = ()
    """Those that it often has."""
    lack: Callable[[Row], str | None] = lambda row: None
    """What is wrong with a row that has the columns and does not fit all the same."""


def _single(example: Callable[[Row, str], Example]) -> Callable[[Row, str], Iterator[Example]]:
    def examples(row: Row, where: str) -> Iterator[Example]:
        yield example(row, where)

    return examples


CONVERSATION = Schema(
    "ShareGPT or ChatML", is_conversation, conversation_examples, ("conversations",), lack=conversation_lack
)
SCHEMAS = (
    CONVERSATION,
    Schema("SQuAD", is_squad, _single(squad_example), ("context", "question", "answers"), ("title",)),
    Schema("Alpaca", is_alpaca, _single(alpaca_example), ("instruction", "output"), ("input", "history")),
    Schema("Dolly", is_dolly, _single(dolly_example), ("instruction", "response"), ("context", "category")),
    Schema("GSM8K", is_gsm8k, _single(gsm8k_example), ("question", "answer"), lack=gsm8k_lack),
)
"""In the order in which they are tried."""


def known_schema(row: Row) -> Schema | None:
    """The schema of a row, known by its columns."""
    return next((schema for schema in SCHEMAS if schema.fits(row)), None)


def advice(row: Row, before: Schema | None) -> str:
    """What to do with a row that has no target and is of no schema; `before` is the schema of the rows before it."""
    if before is not None:
        return f". The rows before it are {before.name}; {_lack(row, before)}: mend this row, or drop it"
    choose = "say which one should be written, e.g. read(path, target='answer')"
    near = _nearest(row)
    if near is None:
        return f"; {choose}"
    if near is CONVERSATION and not row.keys() - {*COLUMNS, "id"}:
        return f"; {_lack(row, near)}: mend this row, or drop it"
    return f". If it is meant as {near.name}: {_lack(row, near)}. Else {choose}"


def _nearest(row: Row) -> Schema | None:
    """The schema that a row was perhaps meant to have."""
    found = [(_likeness(row, schema), schema) for schema in SCHEMAS]
    score, best = max(found, key=lambda pair: pair[0])
    return best if score > 0 else None


def _likeness(row: Row, schema: Schema) -> int:
    """0 for a row that has nothing of a schema's own; more for each of its columns."""
    missing = [name for name in schema.columns if name not in row]
    if schema is CONVERSATION:
        return 9 if conversation_lack(row) else 0
    if not missing:
        return len(schema.columns) + 4 if schema.lack(row) else 0
    present = sum(name in row for name in (*schema.columns, *schema.usual))
    misspelt = all(_near(name, row) for name in missing)
    return present + 4 * misspelt if len(missing) == 1 and (misspelt or present > 1) else 0


def _lack(row: Row, schema: Schema) -> str:
    """What a row lacks of a schema, in words."""
    missing = [name for name in schema.columns if name not in row]
    if schema is CONVERSATION or not missing:
        return schema.lack(row) or f"it has no list of turns, {' or '.join(map(repr, COLUMNS))}"
    near = [name for wanted in missing if (name := _near(wanted, row))]
    return f"it has no {_listed(missing)}" + (f" (is {_listed(near)} misspelt?)" if near else "")


def _near(wanted: str, row: Row) -> str | None:
    """A column that is perhaps a misspelt one."""
    return next(iter(difflib.get_close_matches(wanted, [name for name in row if isinstance(name, str)], 1, 0.8)), None)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
