"""Screening rows before a fit: what a moderator refuses does not become training data.

kept, refused = screen(read("train.jsonl"), WordList(["idiot", "idiots"]))
print(screen(rows, spam))                     # kept 962 of 1,000 rows; refused: spam 38
clean = ModerationFilter(spam)                # a Filter, for what takes one
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar, final

from tqdm.auto import tqdm

from condition.errors import DataError
from condition.moderation.texts import strings
from condition.moderation.verdicts import Moderators, moderators_of, verdicts
from condition.types import Example, Verdict

RowT = TypeVar("RowT")

_AT_ONCE = 1000


class Refused(NamedTuple, Generic[RowT]):
    """A row that may not pass, its index among the rows, and why."""

    place: int
    row: RowT
    verdict: Verdict


class Screened(NamedTuple, Generic[RowT]):
    """What passed, in order, and what did not."""

    kept: list[RowT]
    refused: list[Refused[RowT]]

    @property
    def counts(self) -> dict[str, int]:
        """Refused rows by category, the most frequent first. A row may be in several."""
        found = Counter(name for one in self.refused for name in one.verdict.categories or ("without a category",))
        return dict(found.most_common())

    def __str__(self) -> str:
        total = len(self.kept) + len(self.refused)
        why = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        return f"kept {len(self.kept):,} of {total:,} rows" + (f"; refused: {why}" if why else "")


def screen(rows: Iterable[RowT], moderator: Moderators) -> Screened[RowT]:
    """The rows whose every text passes: inputs, target, rationale and candidates. One refused text refuses its row.

    `rows` are Examples, Rankings, dictionaries or strings. A row that a moderator fails on is refused as "unchecked".
    Raises DataError for a row that holds no text at all.
    """
    by = moderators_of(moderator)
    if not by:
        raise DataError("nothing to screen with: give a moderator")
    if isinstance(rows, str | Mapping):
        raise DataError(f"screen takes rows, not one ({rows!r:.60}): screen([row], moderator)")
    found = Screened[RowT]([], [])
    coming = iter(tqdm(rows, desc="screen", unit="row", delay=3, leave=False))
    place = 0
    while part := list(islice(coming, _AT_ONCE)):
        for row, verdict in zip(part, _judged(part, by, place), strict=True):
            if verdict.allowed:
                found.kept.append(row)
            else:
                found.refused.append(Refused(place, row, verdict))
            place += 1
    return found


@final
class ModerationFilter:
    """A Filter: true for an example whose every text passes. `screen` is faster for many, and says why."""

    def __init__(self, moderator: Moderators) -> None:
        self.moderators = moderators_of(moderator)

    def __repr__(self) -> str:
        return f"ModerationFilter({', '.join(map(repr, self.moderators))})"

    def __call__(self, example: Example, /) -> bool:
        return _judged([example], self.moderators, 0)[0].allowed


def _judged(rows: Sequence[Any], by: Moderators, first: int) -> list[Verdict]:
    """The verdict of each row: that of its first refused text."""
    texts = [strings(row) for row in rows]
    for place, own in enumerate(texts):
        if not own:
            raise DataError(
                f"row {first + place} holds no text ({rows[place]!r:.60}): give Examples, Rankings or dicts"
            )
    said = iter(verdicts(by, [text for own in texts for text in own]))
    found = []
    for own in texts:
        own_verdicts = [next(said) for _ in own]
        found.append(next((verdict for verdict in own_verdicts if not verdict.allowed), Verdict(True)))
    return found
