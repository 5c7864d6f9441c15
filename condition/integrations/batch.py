"""One call of a model for prompts that another library asks for one by one."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import final

from condition.errors import ConditionError
from condition.integrations.waiting import DESK, Ticket
from condition.types import Completion, Messages


@final
class Batch:
    """Prompts that are written together, as soon as one of them is asked for."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket, self.asked = ticket, False
        self.written: defaultdict[Messages, deque[list[Completion]]] = defaultdict(deque)

    def take(self, messages: Messages) -> list[Completion] | None:
        """Completions of a prompt, each given once; none for a prompt that has to be written by itself."""
        if not self.asked:
            self.asked = True
            # A prompt that can't be written fails before any work: each is tried alone then; the error is its own.
            with suppress(ConditionError):
                for prompt, completions in zip(self.ticket.prompts, DESK.ask(self.ticket), strict=True):
                    self.written[prompt].append(completions)
        found = self.written[messages]
        return found.popleft() if found else None


@contextmanager
def together(batches: Sequence[Batch]) -> Iterator[None]:
    """Inside, `complete` takes from the batches."""
    token = _BATCHES.set(batches)
    try:
        yield
    finally:
        _BATCHES.reset(token)


def complete(ticket: Ticket) -> list[list[Completion]]:
    """Completions of a ticket's prompts: from the batch around it that is like it, or written now."""
    batch = next((batch for batch in _BATCHES.get() if batch.ticket.like(ticket)), None)
    found = batch.take(ticket.prompts[0]) if batch is not None and len(ticket.prompts) == 1 else None
    return DESK.ask(ticket) if found is None else [found]


_BATCHES: ContextVar[Sequence[Batch]] = ContextVar("condition_batches", default=())
