"""Requests that wait for a model at the same time are written in one call.

    DESK.ask(Ticket(model, [messages], Sampling()))                  # in a thread
    await DESK.ask_async(Ticket(model, [messages], Sampling()))      # in an event loop

One request is written at a time, by the thread of whoever asks; requests that come meanwhile wait. Whoever has the next
turn takes the oldest and all that are like it: the same model, sampling and control. Requests of an event loop share
one thread of ours, so that however many wait, none is blocked. A request that is given up leaves: its place among the
waiting ones at once, its row in a call that is being written with the next token.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import final

from condition.models.generate import BATCH_ROWS
from condition.models.local import LocalModel
from condition.protocols import Control
from condition.types import Completion, Messages, Sampling


@final
class Ticket:
    """Prompts that are to be answered together, and later their answers."""

    def __init__(
        self, model: LocalModel, prompts: list[Messages], sampling: Sampling, control: Control | None = None
    ) -> None:
        self.model, self.prompts, self.sampling, self.control = model, prompts, sampling, control
        self.found: list[list[Completion]] = []
        self.error: Exception | None = None
        self.done = False
        """Answered, failed or given up."""

    @property
    def rows(self) -> int:
        """What it takes of a batch."""
        return len(self.prompts) * self.sampling.n

    def like(self, other: Ticket) -> bool:
        """Whether both can be written in one call."""
        return (
            self.model is other.model
            and self.sampling == other.sampling
            and (self.control is other.control or self.control == other.control)
        )

    def clashes(self, others: list[Ticket]) -> bool:
        """Whether a seed would give other samples beside these: in one call, equal prompts get samples of their own."""
        drawn = self.sampling.seed is not None and self.sampling.temperature > 0
        return drawn and not _keys(self).isdisjoint(key for other in others for key in _keys(other))

    def result(self) -> list[list[Completion]]:
        """The answers. Raises what went wrong."""
        if self.error is not None:
            raise self.error
        return self.found


@final
class Desk:
    """Where requests wait for their turn."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[Ticket] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="condition")

    def ask(self, ticket: Ticket) -> list[list[Completion]]:
        """The answers to a ticket, in the caller's thread."""
        self._put(ticket)
        try:
            self._serve(ticket)
        finally:
            self.leave(ticket)
        return ticket.result()

    async def ask_async(self, ticket: Ticket) -> list[list[Completion]]:
        """The answers to a ticket. Cancelled, it leaves."""
        self._put(ticket)
        try:
            await asyncio.sleep(0)  # what is asked in the same breath is all here before the first is written
            await asyncio.wrap_future(self._writer.submit(self._serve, ticket))
        finally:
            self.leave(ticket)
        return ticket.result()

    def _put(self, ticket: Ticket) -> None:
        with self._guard:
            self._waiting.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for a ticket any more, if anybody did."""
        with self._guard:
            ticket.done = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def _serve(self, ticket: Ticket) -> None:
        """Write what waits, the oldest first, until this one is done."""
        with self._turn:
            while not ticket.done and (tickets := self._next()):
                _write(tickets)

    def _next(self) -> list[Ticket]:
        """The oldest ticket and those like it, as many as fit one batch. They stay until they are answered."""
        with self._guard:
            self._waiting = [ticket for ticket in self._waiting if not ticket.done]
            taken, rows = self._waiting[:1], sum(ticket.rows for ticket in self._waiting[:1])
            for ticket in self._waiting[1:]:
                if ticket.like(taken[0]) and rows + ticket.rows <= BATCH_ROWS and not ticket.clashes(taken):
                    taken.append(ticket)
                    rows += ticket.rows
            return taken


def _write(tickets: list[Ticket]) -> None:
    """Answer tickets in one call; where that fails each alone, so that the error is its own.

    On Ctrl-C nothing is lost: those that are not answered wait on.
    """
    first = tickets[0]
    owners = [ticket for ticket in tickets for _ in ticket.prompts]
    prompts = [prompt for ticket in tickets for prompt in ticket.prompts]
    try:
        found = first.model.generate(
            prompts, first.sampling, control=first.control, wanted=lambda place: not owners[place].done
        )
    except Exception as error:  # whatever it is, the one who asked gets it
        if len(tickets) > 1:
            for ticket in tickets:
                _write([ticket])
        else:
            first.error, first.done = error, True
        return
    for ticket in tickets:
        ticket.found, found = found[: len(ticket.prompts)], found[len(ticket.prompts) :]
        ticket.done = True


def _keys(ticket: Ticket) -> set[tuple[tuple[str, str], ...]]:
    """Prompts as a chat template may see them: without space around words."""
    return {tuple((message.role, message.content.strip()) for message in prompt) for prompt in ticket.prompts}


DESK = Desk()
"""One for all models: they take turns on the machine anyway."""
