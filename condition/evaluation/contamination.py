"""Rows that a model was trained on and is measured on: a score on them says nothing about others.

    found = overlap(train, task)
    print(found)                                # 3 of 500 rows stand in the training data, 2 more nearly do
    compare(subjects, task, training=train)     # refuses such a task; allow_overlap=True lets it pass

Two rows are the same where every input that both have is the same in words, whatever its case, punctuation and white
space. They are nearly the same where of the word trigrams of every such input the two have at least `NEAR` in common,
as a share of all that either has (Jaccard): one word changed in a sentence of twenty. Another question on the same
passage is another row.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation.tasks.task import Task, TaskRow
from condition.types import Example, Message, Value

NEAR = 0.7
_WORDS = 3  # in a shingle
_WHOLE = "\0all inputs"

Inputs = Mapping[str, Any]
Shingles = frozenset[tuple[str, ...]]


class Shared(NamedTuple):
    """A row of the task and the row of the training data that is like it."""

    id: str
    """Of the task's row."""
    training_row: int
    similarity: float
    """1 where both say the same."""


class Overlap(Value):
    """What a task shares with training data; each of its rows once, with the row that is most like it."""

    rows: int
    exact: tuple[Shared, ...]
    near: tuple[Shared, ...]

    def __bool__(self) -> bool:
        return bool(self.exact or self.near)

    def __str__(self) -> str:
        if not self:
            return f"none of {self.rows} rows stands in the training data"
        told = f"{len(self.exact)} of {self.rows} rows stand in the training data, {len(self.near)} more nearly do"
        first = (*self.exact, *self.near)[0]
        return f"{told}; the first is {first.id}, like training row {first.training_row}"


def overlap(training: object, task: Task | Sequence[TaskRow], near: float = NEAR) -> Overlap:
    """Rows of the task that stand in the training data, or nearly do.

    `training` is whatever `read` takes, or another Task. Where no input of the rows has a name that the training rows
    have, all inputs of a row together are looked for in a training row, and in each text of one alone: in a turn of a
    conversation, in an instruction. Raises DataError for no training rows.
    """
    if not 0 < near <= 1:
        raise DataError(f"near={near!r}: give a share of shingles in common, above 0 and at most 1")
    rows = task.rows if isinstance(task, Task) else tuple(task)
    trained = list(_inputs(training))
    if not trained:
        raise DataError("there are no training rows to look for")
    names = {name for inputs in trained for name in inputs}
    fields = {name for row in rows for name in row.inputs if name in names} or {_WHOLE}
    entries = [(number, inputs) for number, inputs in enumerate(trained)]
    if _WHOLE in fields:
        entries += [(number, {"text": text}) for number, inputs in entries for text in _texts(inputs)]
    index = _Index([_fields(inputs, fields) for _, inputs in entries])
    exact: list[Shared] = []
    close: list[Shared] = []
    for row in rows:
        if (best := index.nearest(_fields(row.inputs, fields), near)) is not None:
            place, similarity = best
            (exact if similarity == 1 else close).append(Shared(row.id, entries[place][0], similarity))
    return Overlap(rows=len(rows), exact=tuple(exact), near=tuple(close))


def refuse_overlap(training: object, task: Task | Sequence[TaskRow]) -> None:
    """Raises DataError where a task shares rows with training data."""
    if found := overlap(training, task):
        raise DataError(
            f"{found}: a score on rows that were trained on says nothing about others. Take them out of either side, "
            "or allow it with allow_overlap=True"
        )


class _Index:
    """Training rows by their shingles, so that only rows that may be near are looked at."""

    def __init__(self, rows: Sequence[Mapping[str, tuple[str, ...]]]) -> None:
        self._words = rows
        self._shingles = [{name: _shingled(words) for name, words in row.items()} for row in rows]
        self._places: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for place, row in enumerate(self._shingles):
            for name, shingles in row.items():
                for shingle in shingles:
                    self._places[name, shingle].append(place)
        self._exact: dict[Any, int] = {}
        for place, words in enumerate(rows):
            self._exact.setdefault(tuple(sorted(words.items())), place)

    def nearest(self, words: Mapping[str, tuple[str, ...]], near: float) -> tuple[int, float] | None:
        """The most similar row that is at least `near`, by the input that is least alike."""
        if not words:
            return None
        same = self._exact.get(tuple(sorted(words.items())))
        if same is not None:
            return same, 1.0
        own = {name: _shingled(found) for name, found in words.items()}
        best: tuple[int, float] | None = None
        for place in self._candidates(own, near):
            other = self._shingles[place]
            common = own.keys() & other.keys()
            similarity = min((_jaccard(own[name], other[name]) for name in common), default=0.0)
            if all(words[name] == self._words[place][name] for name in common):
                similarity = 1.0
            elif similarity == 1:
                similarity = math.nextafter(1.0, 0.0)  # the same shingles in another order
            if similarity >= near and (best is None or similarity > best[1]):
                best = place, similarity
        return best

    def _candidates(self, own: Mapping[str, Shingles], near: float) -> set[int]:
        """Two sets that share the part `near` share at least one of any (1 - near) n + 1 shingles: the rarest are
        looked up. Bayardo, Ma & Srikant 2007, doi 10.1145/1242572.1242591."""
        fewest: set[int] | None = None
        for name, shingles in own.items():
            rarest = sorted(shingles, key=lambda shingle: len(self._places.get((name, shingle), ())))
            looked_up = rarest[: len(rarest) - math.ceil(near * len(rarest)) + 1]
            found = {place for shingle in looked_up for place in self._places.get((name, shingle), ())}
            if fewest is None or len(found) < len(fewest):
                fewest = found
        return fewest or set()


def _inputs(training: object) -> Iterator[Inputs]:
    if isinstance(training, Task):
        yield from (row.inputs for row in training.rows)
        return
    for row, _ in locate(training):
        example = row.get("__example__")
        yield example.inputs if isinstance(example, Example) else row


def _fields(inputs: Inputs, names: set[str]) -> dict[str, tuple[str, ...]]:
    """Words of each input; an empty one tells nothing apart."""
    if _WHOLE in names:
        told = {_WHOLE: " ".join(_text(inputs[name]) for name in sorted(inputs))}
    else:
        told = {name: _text(inputs[name]) for name in sorted(names) if name in inputs}
    found = {name: _words(text) for name, text in told.items()}
    return {name: words for name, words in found.items() if words}


def _text(value: object) -> str:
    return " ".join(_texts(value))


def _texts(value: object) -> Iterator[str]:
    """Each text that a value holds, however deep."""
    if isinstance(value, Message):
        yield value.content
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
    else:
        yield str(value)


def _words(text: str) -> tuple[str, ...]:
    """Words without case and punctuation; a sign of a script without spaces is a word. A text of other signs only, such
    as emoji, is what it is."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+", plain)
    return tuple(words or plain.split())


def _shingled(words: tuple[str, ...]) -> Shingles:
    size = min(_WORDS, len(words))
    return frozenset(words[i : i + size] for i in range(len(words) - size + 1))


def _jaccard(one: Shingles, other: Shingles) -> float:
    return len(one & other) / len(one | other)
