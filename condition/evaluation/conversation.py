"""Rows that go on after the first reply: each turn sees what was said before.

    TaskRow("1", {"question": "Name a town."}, None, then=({"question": "In which country is it?"},))

A model is asked with what the prompt begins with, what was said, and the new turn. A chain or a function gets the
inputs of the turn, and what was said as the input `history`, for the prompt `History()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from condition.errors import Interrupted, ModelError, UnfinishedError
from condition.evaluation.said import Said
from condition.evaluation.tasks.task import Task, TaskRow
from condition.prompts.fill import fill
from condition.protocols import Prompt
from condition.types import Message, Messages, Usage

HISTORY = "history"
Ask = Callable[[Sequence[TaskRow], Sequence[Mapping[str, Any]]], Said]
"""One turn: the rows that go on, and the inputs of this turn, `history` among them."""


def opening(task: Task, row: TaskRow) -> Mapping[str, Any]:
    """Inputs of the first turn; in a task with several, nothing was said yet."""
    return {**row.inputs, HISTORY: ()} if task.has_turns else row.inputs


def messages(prompt: Prompt, row: TaskRow, inputs: Mapping[str, Any]) -> Messages:
    """What a model is asked in a turn: a prompt with a place for `history` puts it there itself.

    Raises ModelError for plain text, which has no turns, and where what is new in a turn would not be asked.
    """
    said: Messages = inputs[HISTORY]
    has_place = HISTORY in prompt.variables
    filled = fill(prompt, inputs if has_place else {k: v for k, v in inputs.items() if k != HISTORY})
    if filled[-1].role == "text":
        raise ModelError(
            f"row {row.id} is a conversation, and plain text has no turns: give a ChatPrompt, or ask the first turn "
            "only, as tasks.dialogue(..., turns=1) does"
        )
    if filled[-1].role != "user":
        raise ModelError(f"row {row.id} is a conversation, and its prompt ends with a turn of the {filled[-1].role}")
    if not said:
        return filled
    first = fill(prompt, {**row.inputs, HISTORY: ()} if has_place else row.inputs)
    again = fill(prompt, {**inputs, HISTORY: ()}) if has_place else filled[-1:]
    if again == (first if has_place else first[-1:]) and inputs != {**row.inputs, HISTORY: said}:
        raise ModelError(
            f"row {row.id}: what is new in turn {1 + len(said) // 2} would not be asked: the prompt's last message "
            f"is the same as in the first turn. It has the variables {', '.join(sorted(prompt.variables))}"
        )
    return filled if has_place else (*first[:-1], *said, filled[-1])


def converse(prompt: Prompt, rows: Sequence[TaskRow], ask: Ask) -> Said:
    """All turns of all rows, those of one number in one call. `prompt` says how a turn of the user is written.

    A row counts as answered with its last turn only: of a call that was stopped before, nothing is finished.
    """
    said: list[list[str]] = [[] for _ in rows]
    histories: list[Messages] = [() for _ in rows]
    errors: dict[int, str] = {}
    usage = Usage()
    for turn in range(1 + max(len(row.then) for row in rows)):
        going = [i for i, row in enumerate(rows) if len(row.then) >= turn]
        changed = [rows[i].then[turn - 1] if turn else {} for i in going]
        inputs = [{**rows[i].inputs, **new, HISTORY: histories[i]} for i, new in zip(going, changed, strict=True)]
        try:
            found = ask([rows[i] for i in going], inputs)
        except Interrupted:
            raise Interrupted({}, len(rows)) from None
        except UnfinishedError as error:
            raise UnfinishedError(str(error), {}, {going[i]: why for i, why in error.failed.items()}) from error
        usage = usage + found.usage
        for place, (i, text) in enumerate(zip(going, found.texts, strict=True)):
            said[i].append(text)
            histories[i] = (*histories[i], fill(prompt, inputs[place])[-1], Message("assistant", text))
            if place in found.errors:
                errors.setdefault(i, found.errors[place])
    texts = [own[-1] for own in said]
    turns = tuple(tuple(own) if row.then else () for own, row in zip(said, rows, strict=True))
    return Said(texts, usage, (None,) * len(rows), tuple((text,) for text in texts), errors, turns)
