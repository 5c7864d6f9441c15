"""Scoring the choices of a task's rows, in one call for all of them, so that what prompts share is computed once.

Behind plain text a choice follows with one space, and white space at the text's end belongs to the choice: words and
the space before them are one token, as in lm-evaluation-harness.

    "Answer:"  + "Rouen"     ->  "Answer:" | " Rouen"
    "Answer: " + "Rouen"     ->  "Answer:" | " Rouen"
    ""         + "A text."   ->  ""        | "A text."
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from condition.errors import Interrupted, ModelError
from condition.evaluation.tasks.task import Task, TaskRow
from condition.models.local import LocalModel
from condition.prompts.few_shot import following
from condition.prompts.fill import fill
from condition.protocols import Prompt, Scorer
from condition.types import Message, Messages, Score, Usage

Asked = tuple[Messages, tuple[str, ...]]


def scores_of(model: Scorer, prompt: Prompt, task: Task, rows: Sequence[TaskRow]) -> list[tuple[Score, ...]]:
    """For each row the scores of its choices behind the prompt, then behind each of the task's references.

    Raises ModelError where the model gives others than were asked for, or log-probabilities that are no numbers.
    """
    asked = _all_asked(prompt, task, rows)
    once = list(dict.fromkeys(asked))  # words without content are the same for all rows
    who = f"{type(model).__name__}.score"
    try:
        found = model.score([messages for messages, _ in once], [texts for _, texts in once])
    except Interrupted:
        raise Interrupted({}, len(rows)) from None  # what was finished is counted by prompt, not by row
    if len(found) != len(once):
        raise ModelError(f"{who} gave {len(found)} lists of scores for {len(once)} prompts")
    by_asked = dict(zip(once, found, strict=True))
    gathered: list[tuple[Score, ...]] = []
    for i, row in enumerate(rows):
        lists = [by_asked[one] for one in asked[i :: len(rows)]]
        if any(len(scores) != len(row.choices) for scores in lists):
            raise ModelError(
                f"{who} gave {[len(s) for s in lists]} scores for {len(row.choices)} choices, row {row.id}"
            )
        gathered.append(tuple(score for scores in lists for score in scores))
        if any(math.isnan(score.logprob) for score in gathered[-1]):
            raise ModelError(f"{who} gave a log-probability that is no number, row {row.id}: is the network broken?")
    return gathered


def usage_of(
    model: Scorer, prompt: Prompt, task: Task, rows: Sequence[TaskRow], scores: Sequence[Sequence[Score]]
) -> Usage:
    """What `scores_of` read for these scores: each prompt once, whole, and each choice behind it. Written is nothing.

    Only a local model tells; nothing is known of another one.
    """
    if not isinstance(model, LocalModel):
        return Usage()
    tokens: dict[Asked, int] = {}
    for place, one in enumerate(_all_asked(prompt, task, rows)):
        which, row = divmod(place, len(rows))
        size = len(rows[row].choices)
        if one not in tokens:
            own = scores[row][which * size : (which + 1) * size]
            tokens[one] = len(model.render(one[0]).ids) + sum(score.tokens for score in own)
    return Usage(input_tokens=sum(tokens.values()))


def _all_asked(prompt: Prompt, task: Task, rows: Sequence[TaskRow]) -> list[Asked]:
    """Of all rows behind the prompt, then of all rows behind each reference."""
    asked = [_asked(prompt, row, row.inputs) for row in rows]
    for reference in task.references:
        if isinstance(reference, Mapping):
            asked += [_asked(prompt, row, {**row.inputs, **reference}) for row in rows]
        else:
            asked += [_asked(reference, row, row.inputs) for row in rows]
    return asked


def _asked(prompt: Prompt, row: TaskRow, inputs: Mapping[str, object]) -> Asked:
    *before, last = fill(prompt, inputs)
    if last.role != "text" or not last.content:
        return (*before, last), row.choices
    words = last.content.rstrip()
    if not words:
        return (*before, last), row.choices
    space = last.content[len(words) :]
    values = tuple((start, min(stop, len(words))) for start, stop in last.values if start < len(words))
    choices = (space + choice if space else following(words, choice) for choice in row.choices)
    return (*before, Message("text", words, values)), tuple(choices)
