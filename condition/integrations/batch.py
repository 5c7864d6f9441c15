"""One call of a model for prompts that another library asks for one by one, in a thread that may be left alone."""

from __future__ import annotations

from asyncio import CancelledError
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
                for prompt, completions in zip(self.ticket.prompts, _ask(self.ticket), strict=True):
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
    return _ask(ticket) if found is None else [found]


@final
class Caller:
    """Somebody who waits for what a thread asks, and may leave; the thread then ends with CancelledError."""

    def __init__(self) -> None:
        self.gone = False
        self._ticket: Ticket | None = None

    def __enter__(self) -> None:
        """Inside, what is asked in this context is for the caller."""
        self._token = _CALLER.set(self)

    def __exit__(self, *_: object) -> None:
        _CALLER.reset(self._token)

    def ask(self, ticket: Ticket) -> list[list[Completion]]:
        """The answers to a ticket, which leaves with the caller."""
        self._ticket = ticket  # first, so that `leave` finds it or this finds that the caller is gone
        found = [] if self.gone else DESK.ask(ticket)
        if self.gone:
            raise CancelledError
        return found

    def leave(self) -> None:
        self.gone = True
        if self._ticket is not None:
            DESK.leave(self._ticket)


def _ask(ticket: Ticket) -> list[list[Completion]]:
    caller = _CALLER.get()
    return DESK.ask(ticket) if caller is None else caller.ask(ticket)


_CALLER: ContextVar[Caller | None] = ContextVar("condition_caller", default=None)
_BATCHES: ContextVar[Sequence[Batch]] = ContextVar("condition_batches", default=())
