"""Writing with prompts that are read and stored once, a token of every sample at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import final

from condition.adapters.packed import PackedProducts
from condition.errors import Interrupted
from condition.models.completion import Asked, Wanted, Writer, completion, grouped, processor, spaced, text_of
from condition.models.remember import kept
from condition.prefix_sharing.decode import Decoder, Drawn
from condition.prefix_sharing.memory import store
from condition.protocols import Control
from condition.types import Completion, Sampling, Usage


def write_shared(
    writer: Writer,
    batch: Sequence[Asked],
    sampling: Sampling,
    control: Control | None,
    *,
    wanted: Wanted | None = None,
) -> list[list[Completion]]:
    """`sampling.n` completions for each prompt of a batch. Ask `probe.shareable(network)` first.

    On Ctrl-C raises `Interrupted` with those of the prompts that were finished.
    """
    writing = Writing(writer, batch, sampling, control, wanted)
    try:
        while not writing.done:
            writing.step()
    except KeyboardInterrupt:
        found = grouped(writing.completions(), len(batch), sampling)
        ended = {
            p.place: own for p, own in zip(batch, found, strict=True) if all(c.finish_reason != "length" for c in own)
        }
        raise Interrupted(ended, len(batch)) from None
    return grouped(writing.completions(), len(batch), sampling)


@final
class Writing:
    """A batch of prompts that is being answered. The samples of prompt i are `i * each` and those that follow."""

    def __init__(
        self,
        writer: Writer,
        batch: Sequence[Asked],
        sampling: Sampling,
        control: Control | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        self.writer, self.batch, self.sampling, self.wanted = writer, batch, sampling, wanted
        self.each = sampling.n if sampling.temperature > 0 else 1
        self.tokens: list[list[int]] = [[] for _ in range(len(batch) * self.each)]
        self._logprobs: list[list[float]] = [[] for _ in self.tokens]
        self._blocked: set[int] = set()
        self._began = time.perf_counter()
        self._control = control
        self._packed: AbstractContextManager[None] = (
            PackedProducts(writer.network) if writer.room.copies else nullcontext()
        )
        with self._packed:
            ids = [prompt.ids for prompt in batch]
            self._stored = store(writer.network, ids, kept(writer.network, ids))
        self._most = min(sampling.max_tokens, writer.context - max(len(prompt.ids) for prompt in batch))
        header, rest = self._stored.header_keys.shape[-1], self._stored.keys.shape[-1]
        samples = writer.room.samples(len(batch), header + len(batch) * rest, self._most)
        self._wave = min(self.each, samples)  # more are written in several waves
        self._next = 0
        self._decoder = self._start()

    @property
    def done(self) -> bool:
        """Whether every sample is finished."""
        return self._decoder.done and self._next >= self.each

    def step(self) -> list[Drawn]:
        """The next token of each unfinished sample of this wave.

        Raises ControlError where a control lets no token begin; later on, that ends the sample.
        """
        with self._packed:
            if self._decoder.done:
                self._decoder = self._start()
            elif self._decoder.said:
                self._decoder.read()
        found = []
        for sample, token, logprob in self._decoder.step():
            own = self._number(sample)
            self.tokens[own].append(token)
            self._logprobs[own].append(logprob)
            left = self.wanted is not None and not self.wanted(self.batch[own // self.each].place)
            if left or (self.sampling.stop and self._stopped(own)):
                self._decoder.end(sample)
            found.append(Drawn(own, token, logprob))
        self._blocked.update(map(self._number, self._decoder.blocked))
        return found

    @property
    def live(self) -> set[int]:
        """The samples that are being written."""
        return set(map(self._number, self._decoder.live))

    def completions(self) -> list[Completion]:
        """What each sample says, `[prompts * each]`."""
        return [self.completion(i) for i in range(len(self.tokens))]

    def completion(self, sample: int) -> Completion:
        """What a sample says so far, with its share of what all have cost."""
        rows = len(self.tokens)
        seconds = (time.perf_counter() - self._began) / rows
        return completion(
            self.writer,
            self.batch[sample // self.each],
            self.tokens[sample],
            self._logprobs[sample],
            self.sampling,
            Usage(computed_tokens=round(self._stored.computed / rows), seconds=seconds),
            blocked=sample in self._blocked,
        )

    def _number(self, sample: int) -> int:
        """Among all samples, of one of this wave."""
        prompt, number = divmod(sample, self._decoder.samples)
        return prompt * self.each + self._next - self._decoder.samples + number

    def _start(self) -> Decoder:
        """The next wave of samples."""
        first, self._next = self._next, min(self.each, self._next + self._wave)
        return Decoder(
            self.writer.network,
            self._stored,
            [prompt.ids for prompt in self.batch],
            self.sampling,
            [prompt.stops for prompt in self.batch],
            processor(self._control, self.writer, self.batch, self._next - first, self._most),
            numbers=range(first, self._next),
            twins=[prompt.twin for prompt in self.batch],
            most=self._most,
        )

    def _stopped(self, sample: int) -> bool:
        """Whether the newest token ends a stop text. Each token but a special one holds at least one byte."""
        longest = max(len(stop.encode()) for stop in self.sampling.stop)
        tail = self.tokens[sample][-longest - 8 :]
        text = text_of(self.writer.renderer.tokenizer, tail)
        if len(tail) == len(self.tokens[sample]) and spaced(self.writer, self.batch[sample // self.each]):
            text = text.removeprefix(" ")
        return any(stop in text for stop in self.sampling.stop)
