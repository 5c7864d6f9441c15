"""Rows that stand twice, in the training or in both sets, before any work is done."""

from __future__ import annotations

import logging
from dataclasses import replace

from condition.errors import DataError
from condition.training.rows import Prepared
from condition.training.settings import Settings

log = logging.getLogger("condition")
NAMED = 3
"""Rows that a message names."""


def without_repeats(rows: Prepared, held: Prepared | None, settings: Settings) -> Prepared:
    """The training rows, without those that `settings` says to drop.

    Raises DataError for rows that the validation set has too, and for repeated ones, where the settings say so.
    """
    keys = [row.key for row in rows.origins] or [repr(row) for row in rows.rows]
    names = [row.name for row in rows.origins] or [f"row {i}" for i in range(len(rows.rows))]
    if held is not None and settings.overlap != "allow":
        theirs = {*(row.key for row in held.origins)} or {repr(row) for row in held.rows}
        both = {i for i, key in enumerate(keys) if key in theirs}
        if both and settings.overlap == "raise":
            raise DataError(
                f"training {_say(both, names)} {_are(both)} in the validation data too, so its loss would say nothing "
                "about new rows: take them out, or Settings(overlap='drop') leaves them out of the training, "
                "overlap='allow' keeps them"
            )
        rows = _without(rows, both, "in the validation data too")
        keys, names = ([x for i, x in enumerate(of) if i not in both] for of in (keys, names))
    first: dict[str, int] = {}
    again = {i for i, key in enumerate(keys) if first.setdefault(key, i) != i}
    if again and settings.duplicates == "raise":
        raise DataError(
            f"training {_say(again, names)} {_were(again)} there before, in the same words: take them out, or "
            "Settings(duplicates='drop') does, duplicates='allow' keeps them"
        )
    if again and settings.duplicates == "allow":
        log.info("%s training rows say what another one says; they are kept", len(again))
    return rows if settings.duplicates == "allow" else _without(rows, again, "there before")


def _without(rows: Prepared, gone: set[int], why: str) -> Prepared:
    if not gone:
        return rows
    log.warning("%s training rows left out, as they are %s", len(gone), why)
    kept = [i for i in range(len(rows.rows)) if i not in gone]
    if not kept:
        raise DataError(f"no training rows left: all are {why}")
    origins = [rows.origins[i] for i in kept] if rows.origins else ()
    return replace(rows, rows=[rows.rows[i] for i in kept], origins=origins, dropped=rows.dropped + len(gone))


def _say(which: set[int], names: list[str]) -> str:
    more = f" and {len(which) - NAMED} more" if len(which) > NAMED else ""
    return ("rows " if len(which) > 1 else "") + ", ".join(names[i] for i in sorted(which)[:NAMED]) + more


def _are(which: set[int]) -> str:
    return "are" if len(which) > 1 else "is"


def _were(which: set[int]) -> str:
    return "were" if len(which) > 1 else "was"
