"""Streams that begin in the same breath are written together, a token of each at a time.

    async for piece in STREAMS.read(Ticket(model, [messages], Sampling())):     # text, and at last the Completion

Whoever wants the next piece and finds none lets all that are written with him go one token further, so nobody has to
read for others to go on, and pieces wait for their reader. Streams that begin later are a group of their own, and
groups take turns. One that has no room yet lets the oldest group go on instead. A stream that is left, because its task
was cancelled or its loop ended early, is written no further.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import final

from condition.integrations.waiting import Ticket
from condition.models.completion import asked
from condition.models.generate import batches
from condition.models.render import TURNS
from condition.models.stream import Shown
from condition.models.writing import Writing
from condition.prefix_sharing.probe import shareable
from condition.types import Completion

Piece = str | Completion


@final
class Stream:
    """What one reader is to see. Raises ModelError for a prompt that leaves no room for an answer."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.sampling = ticket.sampling.model_copy(update={"n": 1})
        self.writer = ticket.model._writer
        self.prompt = asked(self.writer, 0, ticket.prompts[0])
        self.shown = Shown(self.writer, self.prompt, self.sampling.stop)
        self.pieces: deque[Piece] = deque()
        self.error: Exception | None = None
        self.group: _Group | None = None
        # A control of anybody's may fail for all at once.
        self.alone = not (ticket.control is None or hasattr(ticket.control, "followed"))
        """Whether it is written by itself, so that an error is its own."""
        self.apart = False
        """Whether the network can't share prompts, nor write one token after the other."""
        self.over = False
        """Whether it is written to its end, has failed or was left."""

    @property
    def tokens(self) -> int:
        """Stored at the most."""
        return len(self.prompt.ids) + self.sampling.max_tokens

    def joins(self, other: Stream) -> bool:
        """Whether both can be written together. With a seed equal prompts would get samples of their own."""
        twins = self.sampling.seed is not None and self.prompt.ids == other.prompt.ids
        return not (self.alone or other.alone or twins) and self.ticket.like(other.ticket)

    def show(self, item: int | Completion) -> None:
        self.pieces.extend(self.shown.pieces(item))
        self.over = self.over or isinstance(item, Completion)

    def fail(self, error: Exception) -> None:
        self.error, self.over = error, True


@final
class _Group:
    """Streams that are written together."""

    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams
        for stream in streams:
            stream.group = self
        self._writing: Writing | None = None

    @property
    def over(self) -> bool:
        return all(stream.over for stream in self.streams)

    def step(self) -> None:
        """One token more of each."""
        if self.over:
            return
        try:
            with TURNS:
                writing = self._writing = self._writing or self._begun()
                drawn = writing.step()
        except Exception as error:  # whatever it is, nobody must wait for this group
            self._fail(error)
            return
        for place, token, _ in drawn:
            self.streams[place].show(token)
        for place, stream in enumerate(self.streams):
            if not stream.over and place not in writing.live:
                try:
                    stream.show(writing.completion(place))
                except Exception as error:  # its own, such as log-probabilities that are no numbers
                    stream.fail(error)

    def _begun(self) -> Writing:
        first = self.streams[0]
        prompts = [stream.prompt._replace(place=place) for place, stream in enumerate(self.streams)]
        return Writing(
            first.writer, prompts, first.sampling, first.ticket.control, lambda place: not self.streams[place].over
        )

    def _fail(self, error: Exception) -> None:
        """Before the first token each is tried alone, so that the error is its own."""
        if len(self.streams) > 1 and (self._writing is None or not any(self._writing.tokens)):
            for stream in self.streams:
                stream.group, stream.alone = None, True
            self.streams = []
        for stream in self.streams:
            if not stream.over:
                stream.fail(error)


@final
class Streams:
    """Where streams gather."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: list[Stream] = []
        self._groups: list[_Group] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="condition-streams")

    async def read(self, ticket: Ticket) -> AsyncIterator[Piece]:
        """Pieces of the answer to a ticket's one prompt, then the Completion."""
        stream = Stream(ticket)
        with self._guard:
            self._waiting.append(stream)
        try:
            await asyncio.sleep(0)  # what begins in the same breath is all here before the first is written
            piece: Piece = ""
            while not isinstance(piece, Completion):
                while not stream.pieces:
                    if stream.error is not None:
                        raise stream.error
                    if stream.apart:
                        async for piece in _apart(ticket):
                            yield piece
                        return
                    await asyncio.wrap_future(self._thread.submit(self._go_on, stream))
                piece = stream.pieces.popleft()
                yield piece
        finally:
            self._leave(stream)

    def _go_on(self, stream: Stream) -> None:
        """One token more for a stream that has no piece left, or for the oldest group where it has no room yet."""
        if stream.pieces or stream.over:
            return
        if shareable(stream.writer.network):
            (stream.group or self._joined(stream)).step()
            self._forget()
        else:
            stream.apart = True

    def _joined(self, stream: Stream) -> _Group:
        """A new group of a stream and those that wait and join it; the oldest where there is no room beside others."""
        with self._guard:
            alike = [stream]
            for other in self._waiting:
                if other is not stream and all(other.joins(one) for one in alike):
                    alike.append(other)
            prompts = [one.prompt._replace(place=place) for place, one in enumerate(alike)]
            found = batches(prompts, stream.sampling, stream.writer, shared=True)
            chosen = next(places for batch in found if 0 in (places := [prompt.place for prompt in batch]))
            streams = [alike[place] for place in chosen]
            live = [one for group in self._groups for one in group.streams if not one.over]
            if live and not stream.writer.room.fits(sum(one.tokens for one in live + streams), len(live + streams)):
                return self._groups[0]
            self._waiting = [one for one in self._waiting if one not in streams]
            self._groups.append(_Group(streams))
            return self._groups[-1]

    def _leave(self, stream: Stream) -> None:
        stream.over = True
        with self._guard:
            self._waiting = [one for one in self._waiting if one is not stream]
        self._forget()

    def _forget(self) -> None:
        with self._guard:
            self._groups = [group for group in self._groups if not group.over]


async def _apart(ticket: Ticket) -> AsyncIterator[Piece]:
    """By itself, in other threads."""
    pieces = ticket.model.stream(ticket.prompts[0], ticket.sampling, control=ticket.control)
    loop = asyncio.get_running_loop()
    while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:
        yield piece


STREAMS = Streams()
"""One for all models: they take turns on the machine anyway."""
