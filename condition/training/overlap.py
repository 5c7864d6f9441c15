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
    if held is not None and settings.overlap != "allow":
        theirs = {sign for signs in _signs(held) for sign in signs}
        both = {i for i, signs in enumerate(_signs(rows)) if signs & theirs}
        if both and settings.overlap == "raise":
            said, are, _ = _say(both, rows)
            raise DataError(
                f"training {said} {are} in the validation data too, so its loss would say nothing "
                "about new rows: take them out, or Settings(overlap='drop') leaves them out of the training, "
                "overlap='allow' keeps them"
            )
        rows = _without(rows, both, "in the validation data too")
        _tell_prompts(rows, held)
    again = _again(rows)
    if again and settings.duplicates == "raise":
        said, _, were = _say(again, rows)
        raise DataError(
            f"training {said} {were} there before, in the same words: take them out, or "
            "Settings(duplicates='drop') does, duplicates='allow' keeps them"
        )
    if again and settings.duplicates == "allow":
        log.info("%s training rows say what another one says; they are kept", len(again))
    return rows if settings.duplicates == "allow" else _without(rows, again, "repeats of an earlier row")


def _signs(rows: Prepared) -> list[set[object]]:
    """What each row is known by: its tokens, as inputs that the prompt leaves out make no other row, and its words."""
    tokens: list[set[object]] = [{row} for row in rows.rows]
    return [own | {origin.key} for own, origin in zip(tokens, rows.origins, strict=True)] if rows.origins else tokens


def _again(rows: Prepared) -> set[int]:
    """Places of the rows that say what one before them says."""
    seen: set[object] = set()
    again: set[int] = set()
    for place, signs in enumerate(_signs(rows)):
        if signs & seen:
            again.add(place)
        seen |= signs
    return again


def _tell_prompts(rows: Prepared, held: Prepared) -> None:
    """Say how many rows share no more than their prompt: a loss on new answers to it says something, if less."""
    asked = {origin.prompt for origin in held.origins} - {""}
    if count := sum(origin.prompt in asked for origin in rows.origins):
        log.info(
            "%s training rows ask what validation rows ask, answered or judged otherwise: to measure on new prompts, "
            "hold back all rows of a prompt",
            count,
        )


def _without(rows: Prepared, gone: set[int], why: str) -> Prepared:
    if not gone:
        return rows
    log.warning("left out %s of %s training rows: %s", len(gone), len(rows.rows), why)
    kept = [i for i in range(len(rows.rows)) if i not in gone]
    if not kept:
        raise DataError(f"no training rows left: all are {why}")
    origins = [rows.origins[i] for i in kept] if rows.origins else ()
    return replace(rows, rows=[rows.rows[i] for i in kept], origins=origins, dropped=rows.dropped + len(gone))


def _say(which: set[int], rows: Prepared) -> tuple[str, str, str]:
    """Rows by name, with "is" and "was" or "are" and "were"."""
    known = [origin.name for origin in rows.origins] or [f"row {i}" for i in range(len(rows.rows))]
    names = list(dict.fromkeys(known[i] for i in sorted(which)))  # a ranking may give several rows
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    said = ", ".join(names[:NAMED]) + more
    return (f"rows {said}", "are", "were") if len(names) > 1 else (said, "is", "was")
