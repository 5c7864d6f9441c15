"""What the columns of preferences hold: candidates as words or turns, lists, numbers, and inputs beside them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from condition.data.conversations import ROLES
from condition.errors import DataError
from condition.types import Message

Row = Mapping[str, Any]

BESIDE = ("id", "score_chosen", "score_rejected", "chosen_score", "rejected_score")
"""Columns about the judgment, no inputs."""
DIALOGUES = ("conversations", "messages", "prompt", "history")
"""Columns that may hold turns."""
_DIALOGUE = re.compile(r"\n\n(Human|Assistant):")


class DifferentPrompts(Exception):
    """A pair whose two sides do not answer the same."""

    def __init__(self) -> None:
        super().__init__("prompts that differ within a pair")


class NoRating(Exception):
    """A judgment that holds no rating."""

    def __init__(self) -> None:
        super().__init__("a judgment without a rating")


def inputs_of(
    others: Mapping[str, Any], before: tuple[Message, ...], where: str, answers: Sequence[str] = ()
) -> dict[str, Any]:
    """Inputs of a row: turns become `history`, and so does what was said before in a dialogue."""
    inputs: dict[str, Any] = {}
    for name, value in others.items():
        if not (name in DIALOGUES and _is_turns(value)):
            inputs[name] = value
            continue
        turns = tuple(_message(turn, where) for turn in value)
        if turns[-1].role == "assistant" and turns[-1].content in answers:
            turns = turns[:-1]  # the whole dialogue, as ultrafeedback_binarized has it
        if turns and turns != before:
            inputs["history"] = turns
    if before and "history" in inputs:
        if inputs["history"] != before:
            raise DifferentPrompts
    elif before and isinstance(others.get("prompt"), str) and before == (Message("user", others["prompt"]),):
        return inputs  # UltraFeedback's pairs say the prompt twice
    elif before:
        inputs["history"] = before
    return inputs


def is_dialogue(text: str) -> bool:
    """Whether words are a whole dialogue, as HH-RLHF writes it."""
    return _DIALOGUE.match(text) is not None


def split_dialogue(text: str) -> tuple[tuple[Message, ...], str]:
    """What was said before the last words of the assistant, and those."""
    parts = _DIALOGUE.split(text)[1:]
    turns = [Message("user" if who == "Human" else "assistant", said.strip()) for who, said in _by_two(parts)]
    if not turns or turns[-1].role != "assistant":
        raise DifferentPrompts
    return tuple(turns[:-1]), turns[-1].content


def split_turns(given: Any, where: str) -> tuple[tuple[Message, ...], str]:
    """The turns before the last one, and its words. Raises DataError where that is not the assistant's."""
    if not isinstance(given, Mapping | list | tuple):
        raise DataError(f"{where}: {given!r:.80} is no candidate: give words, or turns")
    turns = [given] if isinstance(given, Mapping) else list(given)
    messages = [_message(turn, where) for turn in turns]
    if not messages or messages[-1].role != "assistant":
        raise DataError(f"{where}: the last turn of a candidate is not the assistant's: {given!r:.80}")
    return tuple(messages[:-1]), messages[-1].content


def listed(row: Row, name: str, where: str) -> Sequence[Any]:
    """A column that holds a list; a CSV file holds it as JSON. Raises DataError for another."""
    value = row[name]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
        if not isinstance(value, list):
            raise DataError(f"{where}: {name} is {row[name]!r:.60}: give a list; in a CSV file as JSON has it")
    return tuple(value)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; a CSV file holds it as words."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def identity_of(row: Row) -> str | None:
    """What a row calls itself."""
    found = row.get("id", row.get("question_id"))
    return None if found is None else str(found)


def _by_two(parts: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def _is_turns(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping | Message)


def _message(turn: Any, where: str) -> Message:
    if isinstance(turn, Message):
        return turn
    who, said = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if who not in ROLES or not isinstance(said, str):
        raise DataError(f"{where}: {turn!r:.80} is no turn: it needs a known role and words")
    return Message(ROLES[who], said)
