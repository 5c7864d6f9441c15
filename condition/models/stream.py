"""One completion, piece by piece, while it is written. Never half a character, never the start of a stop text."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import final

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from condition.models.completion import Asked, Writer, asked, cut, spaced, whole
from condition.models.fallback import write_plainly
from condition.models.render import TURNS
from condition.models.seeded import seeded
from condition.models.writing import Writing
from condition.prefix_sharing.probe import shareable
from condition.protocols import Control
from condition.types import Completion, Messages, Sampling


class _Tokens(BaseStreamer):
    """Hands each new token to another thread. The first thing that transformers puts is the prompt."""

    def __init__(self) -> None:
        self.queue: queue.Queue[int | Completion | BaseException] = queue.Queue()
        self.prompt_seen = False
        self.closed = False

    def put(self, value: Tensor) -> None:
        if self.closed:
            raise _Closed
        if self.prompt_seen:
            self.queue.put(int(value.flatten()[0]))
        self.prompt_seen = True

    def end(self) -> None:
        pass


class _Closed(Exception):
    """Nobody listens any more."""


def stream(
    writer: Writer, messages: Messages, sampling: Sampling, control: Control | None = None
) -> Iterator[str | Completion]:
    """Pieces of text, then the whole Completion. Leaving the loop early stops the writing."""
    prompt = asked(writer, 0, messages)
    sampling = sampling.model_copy(update={"n": 1})
    written = _shared if shareable(writer.network) else _plainly
    shown = Shown(writer, prompt, sampling.stop)
    for item in written(writer, prompt, sampling, control):
        yield from shown.pieces(item)


@final
class Shown:
    """What a reader has seen of one completion."""

    def __init__(self, writer: Writer, prompt: Asked, stops: Sequence[str]) -> None:
        self.writer, self.prompt, self.stops = writer, prompt, stops
        self._ids: list[int] = []
        self._text = ""

    def pieces(self, item: int | Completion) -> Iterator[str | Completion]:
        """What there is to see with one token more, or with the whole Completion, which is the last."""
        if isinstance(item, int):
            if item in self.prompt.stops:
                return
            self._ids.append(item)
            safe = _safe(self.writer, self.prompt, self._ids, self.stops)
        else:
            safe = item.text
        if len(safe) > len(self._text):
            yield safe[len(self._text) :]
            self._text = safe
        if not isinstance(item, int):
            yield item


def _shared(writer: Writer, prompt: Asked, sampling: Sampling, control: Control | None) -> Iterator[int | Completion]:
    """Tokens as they are drawn, then the Completion. Other threads may write between two of them."""
    with TURNS:
        writing = Writing(writer, [prompt], sampling, control)
    while not writing.done:
        with TURNS:
            drawn = writing.step()  # none where a control lets nothing follow
        yield from (token for _, token, _ in drawn)
    yield writing.completions()[0]


def _plainly(writer: Writer, prompt: Asked, sampling: Sampling, control: Control | None) -> Iterator[int | Completion]:
    """The same through `generate`, which writes in a thread of its own."""
    tokens = _Tokens()
    thread = threading.Thread(target=_run, args=(writer, prompt, sampling, control, tokens), daemon=True)
    thread.start()
    try:
        while True:
            item = tokens.queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, Completion):
                return
    finally:
        tokens.closed = True
        thread.join()


def _safe(writer: Writer, prompt: Asked, ids: list[int], stops: Sequence[str]) -> str:
    """Text that no later token can change: no broken character and no beginning of a stop text at its end."""
    text, _, found = cut(writer.renderer.tokenizer, ids, stops, spaced=spaced(writer, prompt))
    if found:
        return text
    text = whole(text)
    held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - held]


def _run(writer: Writer, prompt: Asked, sampling: Sampling, control: Control | None, tokens: _Tokens) -> None:
    try:
        with TURNS, seeded(sampling.seed):
            tokens.queue.put(write_plainly(writer, [prompt], sampling, control, tokens)[0][0])
    except _Closed:
        pass
    except BaseException as error:  # handed to the reader, who raises it
        tokens.queue.put(error)
