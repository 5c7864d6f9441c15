"""One call of a model for prompts that another library asks for one by one."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import final

from condition.errors import ConditionError
from condition.protocols import Model
from condition.types import Completion, Messages, Sampling


@final
class Batch:
    """Prompts that are written together, as soon as one of them is asked for."""

    def __init__(self, model: Model, prompts: list[Messages], sampling: Sampling) -> None:
        self.model, self.waiting, self.sampling = model, prompts, sampling
        self.written: defaultdict[Messages, deque[list[Completion]]] = defaultdict(deque)

    def take(self, model: Model, messages: Messages, sampling: Sampling) -> list[Completion] | None:
        """Completions of a prompt, each given once; none for a prompt that has to be written by itself."""
        if model is not self.model or sampling != self.sampling:
            return None
        prompts, self.waiting = self.waiting, []
        # A prompt that can't be written fails before any work: each is tried alone then, so that the error is its own.
        with suppress(ConditionError):
            for prompt, completions in zip(prompts, model.generate(prompts, sampling) if prompts else (), strict=True):
                self.written[prompt].append(completions)
        found = self.written[messages]
        return found.popleft() if found else None


@contextmanager
def together(batch: Batch | None) -> Iterator[None]:
    """Inside, `complete` takes from the batch."""
    token = _BATCH.set(batch)
    try:
        yield
    finally:
        _BATCH.reset(token)


def complete(model: Model, messages: Messages, sampling: Sampling) -> list[Completion]:
    """Completions of one prompt: from the batch around it, or written now."""
    batch = _BATCH.get()
    found = batch.take(model, messages, sampling) if batch else None
    return model.generate([messages], sampling)[0] if found is None else found


_BATCH: ContextVar[Batch | None] = ContextVar("condition_batch", default=None)
