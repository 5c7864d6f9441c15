"""One completion, piece by piece, while it is written. Never half a character, never the start of a stop text."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from condition.models.generate import Writer, _Prompt, _write, cut, read_prompt, spaced, stop_tokens
from condition.models.render import TURNS
from condition.models.seeded import seeded
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
    prompt = _Prompt(
        0, read_prompt(writer, messages), stop_tokens(writer.renderer, messages), messages[0].role == "text"
    )
    tokens = _Tokens()
    thread = threading.Thread(target=_run, args=(writer, prompt, sampling, control, tokens), daemon=True)
    thread.start()
    ids: list[int] = []
    shown = ""
    try:
        while True:
            item = tokens.queue.get()
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, Completion):
                if len(item.text) > len(shown):
                    yield item.text[len(shown) :]
                yield item
                return
            if item not in prompt.stops:
                ids.append(item)
                safe = _safe(writer, prompt, ids, sampling.stop)
                if len(safe) > len(shown):
                    yield safe[len(shown) :]
                    shown = safe
    finally:
        tokens.closed = True
        thread.join()


def _safe(writer: Writer, prompt: _Prompt, ids: list[int], stops: tuple[str, ...]) -> str:
    """Text that no later token can change: no broken character and no beginning of a stop text at its end."""
    text, _, found = cut(writer.renderer.tokenizer, ids, stops, spaced=spaced(writer, prompt))
    if found:
        return text
    text = text.rstrip("\ufffd")
    held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - held]


def _run(writer: Writer, prompt: _Prompt, sampling: Sampling, control: Control | None, tokens: _Tokens) -> None:
    try:
        with TURNS, seeded(sampling.seed):
            tokens.queue.put(_write(writer, [prompt], sampling, control, tokens)[0][0])
    except _Closed:
        pass
    except BaseException as error:  # handed to the reader, who raises it
        tokens.queue.put(error)
