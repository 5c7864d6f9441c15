"""Asking a subject row by row, batch by batch, with nothing asked twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from condition.errors import Interrupted, UnfinishedError
from condition.evaluation.cache import UNKEPT, UNNAMED, Answers, as_json, row_hash
from condition.evaluation.conversation import HISTORY, opening
from condition.evaluation.fingerprint import subject_hash
from condition.evaluation.subjects import Subject, ask, is_model
from condition.evaluation.tasks.task import Reply, Task, TaskRow
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.protocols import Chain, Prompt
from condition.types import Answer, Completion, Messages, Usage

BATCH = 64
"""Rows that are asked together, and the most that a kill can lose."""
_PLACE = "place among the rows asked"

log = logging.getLogger("condition")


@final
class Asking:
    """What a subject says to the rows of a task: `replies` by place, and what they cost."""

    def __init__(
        self,
        subject: Subject,
        task: Task,
        rows: Sequence[TaskRow],
        *,
        cache: str | Path | None = None,
        key: str | None = None,
    ) -> None:
        self.subject = subject
        self.task = task
        self.rows = rows
        self.replies: dict[int, Reply] = {}
        self.errors: dict[int, str] = {}
        """By place: why a chain has no answer. Such a row is asked again in the next run."""
        self.cached = 0
        model, prompt = _model_and_prompt(subject, task)
        self._prompt = prompt
        self._messages = None if prompt is None else [fill(prompt, opening(task, row)) for row in rows]
        self._model = model
        name = None if cache is None else subject_hash(model, task.sampling, key, scored=task.scored)
        if cache is not None and name is None:
            log.warning(UNNAMED, cache, type(subject).__name__, "evaluate(..., key=...) or compare(..., keys={...})")
        self._answers = Answers(None if name is None else cache, name or "")
        self._hashes = self._row_hashes()
        self._costs: dict[int, int] = {}

    def ask(self, places: Sequence[int], told: Callable[[], None] = lambda: None) -> None:
        """Reply to the rows at these places, kept ones first; `told` is called after each batch.

        On Ctrl-C, and where a model leaves prompts unanswered, what was finished is kept.
        """
        missing: list[int] = []
        for place in places:
            kept = self._answers.rows.get(self._hashes[place])
            if kept is None:
                missing.append(place)
            else:
                self._take(place, self._hashes[place])
                self.cached += 1
        told()
        for batch in self._batches(missing):
            self._ask(batch)
            told()

    @property
    def usage(self) -> Usage:
        """Of the replies, those from the cache included: what asking them had cost."""
        total = Usage()
        for batch, rows in self._costs.items():
            cost = self._answers.costs[batch]
            total = total + (cost.usage if rows == cost.rows else _share(cost.usage, rows / cost.rows))
        return total

    @property
    def seconds(self) -> float:
        """Of the replies, when they were asked."""
        costs = self._answers.costs
        return sum(costs[batch].seconds * rows / costs[batch].rows for batch, rows in self._costs.items())

    def _batches(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        alone = self._model is None and not isinstance(self.subject, Chain)  # a function gains nothing from company
        size = 1 if alone else BATCH
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def _ask(self, batch: Sequence[int]) -> None:
        began = time.perf_counter()
        try:
            said = ask(*self._question(batch))
        except (Interrupted, UnfinishedError) as stop:
            self._keep(batch, *_finished(stop.finished, self.task.sampling.n), time.perf_counter() - began)
            raise
        turns = said.turns or ((),) * len(batch)
        replies = [Reply(*reply) for reply in zip(said.texts, said.scores, said.samples, turns, strict=True)]
        for i, why in said.errors.items():
            self.errors[batch[i]] = why
            self._hashes[batch[i]] = f"{UNKEPT}{batch[i]}"
        self._keep(batch, dict(enumerate(replies)), said.usage, time.perf_counter() - began)

    def _question(self, batch: Sequence[int]) -> tuple[Any, Task, list[TaskRow]]:
        """What `ask` takes. Prompts are filled once: a selector's work is not done twice, and what is stored is what
        was sent."""
        rows = [self.rows[place] for place in batch]
        if self._messages is None:
            return self.subject, self.task, rows
        if any(isinstance(one, Mapping) for one in self.task.references) or self.task.has_turns:
            return (self._model, self._prompt), self.task, rows  # which is filled with other inputs too
        placed = [row._replace(inputs={**row.inputs, _PLACE: p}) for row, p in zip(rows, batch, strict=True)]
        return (self._model, _Filled(self._messages)), self.task, placed

    def _keep(self, batch: Sequence[int], replies: Mapping[int, Reply], usage: Usage, seconds: float) -> None:
        self._answers.add({self._hashes[batch[i]]: reply for i, reply in replies.items()}, usage, seconds)
        for i in replies:
            self._take(batch[i], self._hashes[batch[i]])

    def _take(self, place: int, row: str) -> None:
        kept = self._answers.rows[row]
        self.replies[place] = kept.reply
        self._costs[kept.batch] = self._costs.get(kept.batch, 0) + 1

    def _turn(self, row: TaskRow, changed: Mapping[str, Any]) -> Any:
        """What a later turn asks."""
        if self._prompt is None:
            return dict(changed)
        whole = HISTORY in self._prompt.variables  # then all of it is filled anew in each turn
        return as_json(fill(self._prompt, {**opening(self.task, row), **changed})[0 if whole else -1 :])

    def _row_hashes(self) -> list[str]:
        """Rows that ask the same are counted, so that each has an answer of its own."""
        seen: dict[str, int] = {}
        found = []
        for place, row in enumerate(self.rows):
            content: Any = dict(row.inputs)
            if self._messages is not None:
                content = as_json(self._messages[place])
            references = [
                as_json(fill(self._prompt or self.task.prompt, {**row.inputs, **one}))
                if isinstance(one, Mapping)
                else as_json(fill(one, row.inputs))
                for one in self.task.references
            ]
            asked = [content, list(row.choices), references]
            if row.then:
                asked.append([self._turn(row, one) for one in row.then])
            # A row that can't be told apart for sure is kept in this run only.
            own = row_hash(asked) or f"{UNKEPT}{place}"
            seen[own] = seen.get(own, -1) + 1
            found.append(f"{own}.{seen[own]}" if seen[own] else own)
        return found


@final
class _Filled:
    """Messages that were filled in already."""

    variables = frozenset({_PLACE})

    def __init__(self, messages: Sequence[Messages]) -> None:
        self._messages = messages

    def format(self, **inputs: object) -> Messages:
        return self._messages[int(str(inputs[_PLACE]))]


def _model_and_prompt(subject: Any, task: Task) -> tuple[Any, Prompt | None]:
    """A model with the prompt that its rows go through; neither for chains and functions."""
    if isinstance(subject, tuple) and len(subject) == 2:
        return as_model(subject[0]), as_prompt(subject[1])
    if isinstance(subject, type | tuple) or not is_model(subject):
        return None, None  # what can't be asked is told by `ask`
    model = as_model(subject)
    own = getattr(model, "prompt", None)
    return model, task.prompt if own is None else as_prompt(own)


def _finished(finished: Mapping[int, Any], n: int) -> tuple[dict[int, Reply], Usage]:
    """Replies among what a call had finished when it was stopped."""
    replies: dict[int, Reply] = {}
    usage = Usage()
    for i, found in finished.items():
        if n == 1 and isinstance(found, Answer) and found.error is None:
            replies[i] = Reply(found.text, None, (found.text,))
            usage = usage + found.usage
        elif isinstance(found, list) and len(found) == n and all(isinstance(one, Completion) for one in found):
            replies[i] = Reply(found[0].text, None, tuple(one.text for one in found))
            usage = sum((one.usage for one in found if one.usage is not None), usage)
    return replies, usage


def _share(usage: Usage, share: float) -> Usage:
    told = usage.model_dump()
    return Usage(**{name: value * share if name == "seconds" else round(value * share) for name, value in told.items()})
