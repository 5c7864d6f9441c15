"""Many calls to one endpoint or several: so many at once, asked again where that may help, none lost.

    for place, outcome in outcomes([Endpoint(llm, at_once=16, name="mine")], [Call("Hello", {})], retries=4):
        ...                                            # an Answered, or the Exception that the call ended with

Whichever endpoint is free takes the next call. A dead one gives its calls back, and the others take them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any, NamedTuple

from langchain_core.runnables import Runnable

from condition.models.retry import LONGEST_SECONDS, advice, asked_again, said, status_of, wait_seconds

log = logging.getLogger("condition")

HOPELESS = 10
"""So many refusals before a first answer mean that no prompt will be answered."""


class Call(NamedTuple):
    """What is asked, and the options to ask it with."""

    asked: Any
    options: Mapping[str, Any]


class Answered(NamedTuple):
    """What came back, and how long it took."""

    written: Any
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """A LangChain model, how many calls it gets at once, and how many prompts one call may have."""

    runnable: Runnable[Any, Any]
    name: str
    at_once: int
    together: int = 1


Outcome = tuple[int, Answered | Exception]


def outcomes(endpoints: Sequence[Endpoint], calls: Sequence[Call], retries: int) -> Generator[Outcome, None, None]:
    """Each call's place with its answer, or with the error that it ended with, as they come.

    Closing the iterator, or Ctrl-C, asks for nothing more; what is under way is not waited for.
    """
    work = _Work(endpoints, calls, retries)
    # Daemons: a call that hangs must not keep the program from ending.
    threads = [
        threading.Thread(target=copy_context().run, args=(work.serve, line), daemon=True)
        for line in work.lines
        for _ in range(min(line.endpoint.at_once, len(calls)))
    ]
    working = len(threads)
    try:
        for thread in threads:
            thread.start()
        while working:
            outcome = work.done.get()
            if outcome is None:
                working -= 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                yield outcome
        for place in work.waiting:  # no endpoint is left
            yield place, next(line.dead for line in work.lines if line.dead)
    finally:
        work.stop()


@dataclass
class _Line:
    """An endpoint during one piece of work."""

    endpoint: Endpoint
    answered: int = 0
    refused: int = 0
    dead: Exception | None = None


class _Work:
    """Calls that wait, and the outcomes of those that do not."""

    def __init__(self, endpoints: Sequence[Endpoint], calls: Sequence[Call], retries: int) -> None:
        self.lines = [_Line(endpoint) for endpoint in endpoints]
        self.calls = calls
        self.retries = retries
        self.waiting = deque(range(len(calls)))
        self.left = len(calls)
        self.passed: Counter[int] = Counter()
        self.stopped = False
        self.changed = threading.Condition()
        self.done: SimpleQueue[Outcome | BaseException | None] = SimpleQueue()

    def serve(self, line: _Line) -> None:
        """Take calls until there are no more."""
        try:
            while places := self._take(line):
                self._ask(line, places)
        except BaseException as error:  # whatever it is, nobody must wait for this thread
            self.done.put(error)
        self.done.put(None)

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def _take(self, line: _Line) -> list[int]:
        """The next calls, as many as may go together; none where all is done or the endpoint is dead."""
        with self.changed:
            # A call that another endpoint has under way may come back.
            self.changed.wait_for(lambda: self.waiting or not self.left or self._is_over(line))
            places: list[int] = []
            while self.waiting and not self._is_over(line) and len(places) < line.endpoint.together:
                if places and self.calls[self.waiting[0]].options != self.calls[places[0]].options:
                    break
                places.append(self.waiting.popleft())
            return places

    def _ask(self, line: _Line, places: list[int]) -> None:
        """Ask until each call has its outcome, or give back what a dead endpoint leaves."""
        answered = 0
        for tries in count():
            failed = self._try(line, places)
            if not failed:
                return
            places, error = list(failed), next(iter(failed.values()))
            answered = answered if tries else line.answered
            wait = wait_seconds(error, tries)
            if tries >= self.retries or wait > LONGEST_SECONDS:
                if line.dead is None and line.answered > answered:  # others were answered since the first failure
                    for place in places:
                        if not self._passed_on(place):
                            self._settle(line, place, failed[place])
                    return
                self._give_up(line, error)
                break
            if not self._rest(line, wait):
                break
        self._give_back(places)

    def _try(self, line: _Line, places: list[int]) -> dict[int, Exception]:
        """Ask once. Gives the calls to ask again, with their errors."""
        began = time.perf_counter()
        asked, options = [self.calls[place].asked for place in places], self.calls[places[0]].options
        try:
            written: list[Any] = line.endpoint.runnable.batch(asked, return_exceptions=True, **options)
        except Exception as error:  # each service has errors of its own
            written = [error] * len(places)
        seconds = (time.perf_counter() - began) / len(places)
        again: dict[int, Exception] = {}
        for place, one in zip(places, written, strict=True):
            if not isinstance(one, Exception):
                self._settle(line, place, Answered(one, seconds))
            elif asked_again(one) or self._is_hopeless(line, one):
                again[place] = one
            else:
                self._settle(line, place, one)
        return again

    def _is_hopeless(self, line: _Line, error: Exception) -> bool:
        """True where the endpoint, and not this prompt, is what fails: a wrong key, a wrong name, a wrong setting."""
        status = status_of(error)
        hopeless = status in (401, 404) or (not line.answered and (status == 403 or line.refused >= HOPELESS))
        if hopeless:
            self._give_up(line, error)
        return hopeless

    def _settle(self, line: _Line, place: int, outcome: Answered | Exception) -> None:
        with self.changed:
            if isinstance(outcome, Exception):
                line.refused += 1
            else:
                line.answered += 1
            self.left -= 1
            self.done.put((place, outcome))
            if not self.left:
                self.changed.notify_all()

    def _give_up(self, line: _Line, error: Exception) -> None:
        with self.changed:
            if line.dead is None and len(self.lines) > 1:
                log.warning("%s answers no more: %s; %s", line.endpoint.name, said(error), advice(error))
            line.dead = line.dead or error
            self.changed.notify_all()

    def _passed_on(self, place: int) -> bool:
        """Leave a call for whoever takes it, as often as there are other endpoints: it may have met one that dies."""
        with self.changed:
            others = sum(line.dead is None for line in self.lines) - 1
            if self.passed[place] >= others:
                return False
            self.passed[place] += 1
            self.waiting.append(place)
            self.changed.notify_all()
            return True

    def _give_back(self, places: list[int]) -> None:
        with self.changed:
            self.waiting.extendleft(reversed(places))
            self.changed.notify_all()

    def _rest(self, line: _Line, seconds: float) -> bool:
        """Wait. False where there is nothing to wait for any more."""
        with self.changed:
            return not self.changed.wait_for(lambda: self._is_over(line), seconds)

    def _is_over(self, line: _Line) -> bool:
        return self.stopped or line.dead is not None
