"""Writing through transformers' `generate`, for networks whose prompts can't be shared; the prompt is read n times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from condition.errors import ControlError
from condition.models.completion import Asked, Wanted, Writer, completion, grouped, processor, spaced, text_of
from condition.prefix_sharing.choose import choose, uniforms
from condition.prefix_sharing.head import gather_logprobs
from condition.protocols import Control
from condition.types import Completion, Sampling, Usage

MOST_ROWS = 32
"""Rows that are written at once, where they have room; more samples are written in several waves, each of which reads
its prompts anew."""


def write_plainly(
    writer: Writer,
    batch: Sequence[Asked],
    sampling: Sampling,
    control: Control | None,
    streamer: BaseStreamer | None = None,
    *,
    wanted: Wanted | None = None,
) -> list[list[Completion]]:
    """`sampling.n` completions for each prompt of a batch, each prompt read n times."""
    each = sampling.n if sampling.temperature > 0 else 1
    longest = max(len(prompt.ids) for prompt in batch)
    row = min(longest + sampling.max_tokens, writer.context)  # a prompt is stored anew for each sample
    wave = max(1, min(MOST_ROWS // len(batch), writer.room.samples(len(batch), 0, row)))
    found: list[list[Completion]] = [[] for _ in batch]
    for first in range(0, each, wave):
        numbers = range(first, min(each, first + wave))
        written = _wave(writer, batch, sampling, control, streamer, wanted, numbers)
        for i, own in enumerate(found):
            own += written[i * len(numbers) : (i + 1) * len(numbers)]
    return grouped([completion for own in found for completion in own], len(batch), sampling)


@torch.inference_mode()
def _wave(
    writer: Writer,
    batch: Sequence[Asked],
    sampling: Sampling,
    control: Control | None,
    streamer: BaseStreamer | None,
    wanted: Wanted | None,
    numbers: range,
) -> list[Completion]:
    """The samples with some `numbers` of each prompt, `[prompts * numbers]`."""
    network, tokenizer = writer.network, writer.renderer.tokenizer
    began = time.perf_counter()
    each = len(numbers)
    rows = [p.ids for p in batch for _ in numbers]
    ids, mask = _left_padded(rows, batch[0].stops[0], network.device)
    recorder = _Recorder(ids.shape[1])
    processors: list[LogitsProcessor] = [recorder]
    dead_ends = _DeadEnds(ids.shape[1], batch[0].stops)
    most = min(sampling.max_tokens, writer.context - ids.shape[1])
    if (limits := processor(control, writer, batch, each, most)) is not None:
        processors += [limits, dead_ends]
    if sampling.temperature > 0:
        drawn = uniforms(sampling.seed, [p.ids for p in batch], numbers, most, [p.twin for p in batch])
        processors.append(_Draw(sampling, drawn))
    ends: list[StoppingCriteria] = []
    if sampling.stop:
        ends.append(_TextStop(tokenizer, ids.shape[1], sampling.stop, spaced=spaced(writer, batch[0])))
    if wanted is not None:
        ends.append(_Left([p.place for p in batch for _ in numbers], wanted))
    stops = batch[0].stops
    config = GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=list(stops), pad_token_id=stops[0])
    with _without_defaults(network):
        output = cast(Any, network).generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(ends),
            streamer=streamer,
        )
    logprobs = recorder.finish(output).tolist()
    seconds = (time.perf_counter() - began) / len(rows)
    completions = []
    for row, tokens in enumerate(output[:, ids.shape[1] :].tolist()):
        prompt = batch[row // each]
        spent = Usage(computed_tokens=len(prompt.ids), seconds=seconds)
        blocked = row in dead_ends.rows
        completions.append(completion(writer, prompt, tokens, logprobs[row], sampling, spent, blocked=blocked))
    return completions


@contextmanager
def _without_defaults(network: PreTrainedModel) -> Iterator[None]:
    """What our own settings leave open transformers takes from the network's: banned words, beams, no cache."""
    own, network.generation_config = network.generation_config, GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own


def _left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask `[rows, longest]`, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


class _Recorder(LogitsProcessor):
    """Keeps the log-probability of each token that was chosen, without keeping any step's logits."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.last: Tensor | None = None
        self.values: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._take(input_ids)
        self.last = scores
        return scores.clone()  # what follows may write into its own copy

    def _take(self, ids: Tensor) -> None:
        if self.last is not None:
            self.values.append(gather_logprobs(self.last, ids[:, self.start + len(self.values)]))

    def finish(self, ids: Tensor) -> Tensor:
        """`[rows, tokens]`"""
        self._take(ids)
        return torch.stack(self.values, 1)


class _DeadEnds(LogitsProcessor):
    """Ends rows that may say nothing more, and keeps which they are. Raises ControlError where none may come first."""

    def __init__(self, start: int, stops: tuple[int, ...]) -> None:
        self.start, self.stops = start, stops
        self.rows: set[int] = set()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        blocked = (scores == float("-inf")).all(-1)
        stops = torch.tensor(self.stops, device=input_ids.device)
        ended = torch.isin(input_ids[:, self.start :], stops).any(-1)
        found = (blocked & ~ended).nonzero()[:, 0].tolist()
        if found and input_ids.shape[1] == self.start:
            raise ControlError("no token may come first: the control can't be satisfied behind this prompt; loosen it")
        self.rows.update(found)
        scores[blocked, self.stops[0]] = 0.0
        return scores


class _Draw(LogitsProcessor):
    """Leaves the one token that is drawn, as where prompts are shared: a seed gives the same samples on both ways."""

    def __init__(self, sampling: Sampling, uniform: Tensor) -> None:
        self.sampling, self.uniform = sampling, uniform
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens = choose(scores, self.sampling, self.uniform[:, self.step].to(scores.device))
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


class _TextStop(StoppingCriteria):
    """True for rows whose decoded text holds a stop text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int, stops: Sequence[str], *, spaced: bool) -> None:
        self.tokenizer, self.start, self.stops = tokenizer, start, stops
        self.space = " " if spaced else ""

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        texts = [text_of(self.tokenizer, ids).removeprefix(self.space) for ids in input_ids[:, self.start :].tolist()]
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)


class _Left(StoppingCriteria):
    """True for rows whose answer nobody waits for any more."""

    def __init__(self, places: Sequence[int], wanted: Wanted) -> None:
        self.places, self.wanted = places, wanted

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.tensor([not self.wanted(place) for place in self.places], device=input_ids.device)
