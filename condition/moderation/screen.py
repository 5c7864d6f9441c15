"""Screening rows before a fit: what a moderator refuses does not become training data.

kept, refused = screen(read("train.jsonl"), WordList(["idiot", "idiots"]))
print(screen(rows, spam))                     # kept 962 of 1,000 rows; refused: spam 38
clean = ModerationFilter(spam)                # a Filter, for what takes one
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, final

from tqdm.auto import tqdm

from condition.errors import DataError, Interrupted
from condition.moderation.texts import strings
from condition.moderation.verdicts import UNCHECKED, Moderators, moderators_of, verdicts
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

    `rows` are Examples, Rankings, dictionaries or strings, all read before the first is judged: one that can't be read
    costs no work. A row that holds no text, or that a moderator fails on, is refused as "unchecked", and its verdict
    says why. Raises DataError for no moderator and for what is no rows, and `Interrupted` on Ctrl-C, which holds the
    verdicts on the rows that were judged.
    """
    by = moderators_of(moderator)
    if not by:
        raise DataError("nothing to screen with: give a moderator")
    if isinstance(rows, str | Mapping):
        raise DataError(f"screen takes rows, not one ({rows!r:.60}): screen([row], moderator)")
    given, judged = list(rows), dict[int, Verdict]()
    with tqdm(total=len(given), desc="screen", unit="row", delay=3, leave=False) as progress:
        for start in range(0, len(given), _AT_ONCE):
            part = given[start : start + _AT_ONCE]
            try:
                judged |= enumerate(_judged(part, by), start)
            except KeyboardInterrupt:
                raise Interrupted(judged, len(given), "rows") from None
            progress.update(len(part))
    kept = [row for place, row in enumerate(given) if judged[place].allowed]
    refused = [Refused(place, row, judged[place]) for place, row in enumerate(given) if not judged[place].allowed]
    return Screened(kept, refused)


@final
class ModerationFilter:
    """A Filter: true for an example whose every text passes. `screen` is faster for many, and says why."""

    def __init__(self, moderator: Moderators) -> None:
        self.moderators = moderators_of(moderator)

    def __repr__(self) -> str:
        return f"ModerationFilter({', '.join(map(repr, self.moderators))})"

    def __call__(self, example: Example, /) -> bool:
        return _judged([example], self.moderators)[0].allowed


def _judged(rows: Sequence[Any], by: Moderators) -> list[Verdict]:
    """The verdict of each row: that of its first refused text."""
    texts = [strings(row) for row in rows]
    said = iter(verdicts(by, [text for own in texts for text in own]))
    found = []
    for row, own in zip(rows, texts, strict=True):
        own_verdicts = [next(said) for _ in own] or [_without_text(row)]
        found.append(next((verdict for verdict in own_verdicts if not verdict.allowed), Verdict(True)))
    return found


def _without_text(row: object) -> Verdict:
    return Verdict(False, (UNCHECKED,), f"{row!r:.60} holds no text: give Examples, Rankings, dicts or strings")
