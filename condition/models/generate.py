"""Completions from a local network, in batches of like length, through transformers' `generate`.

Stop texts are looked for in decoded text, so they are found wherever the tokens are cut, and are not part of the
completion. Log-probabilities are the model's own, at temperature 1, before any limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from tqdm.auto import tqdm
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

from condition.errors import Interrupted, ModelError
from condition.models.render import TURNS, Renderer
from condition.models.seeded import seeded
from condition.prefix_sharing.prefill import prefill
from condition.prefix_sharing.probe import shareable
from condition.protocols import Control
from condition.types import Completion, Messages, Sampling, Usage

BATCH_TOKENS = 8192
"""Prompt and completion tokens in one batch, padding included: bounds the memory of stored keys and values."""
BATCH_ROWS = 32


class Writer(NamedTuple):
    """What writes: a network with the renderer that reads for it."""

    network: PreTrainedModel
    renderer: Renderer
    context: int
    """Most tokens, prompt and completion together."""


class _Prompt(NamedTuple):
    place: int
    ids: tuple[int, ...]
    stops: tuple[int, ...]
    is_text: bool


def generate(
    writer: Writer, prompts: Sequence[Messages], sampling: Sampling, control: Control | None = None
) -> list[list[Completion]]:
    """`sampling.n` completions for each prompt, in the order given.

    Raises ModelError before any work for a prompt that leaves no room in the context, and `Interrupted`, which holds
    what was finished, on Ctrl-C.
    """
    read = [_read(writer, i, messages) for i, messages in enumerate(prompts)]
    finished: dict[int, list[Completion]] = {}
    rows = tqdm(total=len(read), desc="generate", unit="prompt", delay=3, leave=False)
    with rows, TURNS, seeded(sampling.seed):
        try:
            for batch in _batches(read, sampling, writer.context):
                for prompt, completions in zip(batch, _write(writer, batch, sampling, control), strict=True):
                    finished[prompt.place] = completions
                rows.update(len(batch))
        except KeyboardInterrupt:
            raise Interrupted(finished, len(read)) from None
    return [finished[i] for i in range(len(read))]


def stop_tokens(renderer: Renderer, messages: Messages) -> tuple[int, ...]:
    """Tokens that end a completion: the turn's own and the end of text."""
    own = renderer.stop_token(messages)
    end = renderer.tokenizer.eos_token_id
    return (own,) if end is None or end == own else (own, end)


def read_prompt(writer: Writer, messages: Messages) -> tuple[int, ...]:
    """A prompt's ids. Raises ModelError where it leaves no room for an answer."""
    ids = writer.renderer.render(messages).ids
    if not ids:
        raise ModelError("the prompt is empty: it has no tokens at all")
    if len(ids) >= writer.context:
        raise ModelError(f"the prompt has {len(ids):,} tokens and the model's context {writer.context:,}; shorten it")
    return ids


def _read(writer: Writer, index: int, messages: Messages) -> _Prompt:
    try:
        ids = read_prompt(writer, messages)
    except ModelError as error:
        raise ModelError(f"prompt {index}: {error}") from None
    return _Prompt(index, ids, stop_tokens(writer.renderer, messages), messages[0].role == "text")


def _batches(prompts: list[_Prompt], sampling: Sampling, context: int) -> Iterator[list[_Prompt]]:
    """Prompts of like length and kind, longest first, so that too little memory shows at once.

    Among those of like length, prompts that begin alike lie together: their beginning is computed once.
    """
    batch: list[_Prompt] = []
    for prompt in sorted(prompts, key=lambda p: (p.is_text, -(len(p.ids) // 64), p.ids)):
        rows = (len(batch) + 1) * sampling.n
        lengths = {len(p.ids) for p in (*batch, prompt)}
        too_many = rows > BATCH_ROWS or rows * (max(lengths) + sampling.max_tokens) > BATCH_TOKENS
        # Beside a prompt that nearly fills the context, a shorter one would be cut off early.
        too_many |= len(lengths) > 1 and max(lengths) + sampling.max_tokens > context
        if batch and (too_many or batch[0].is_text != prompt.is_text):
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


@torch.inference_mode()
def _write(
    writer: Writer,
    batch: list[_Prompt],
    sampling: Sampling,
    control: Control | None,
    streamer: BaseStreamer | None = None,
) -> list[list[Completion]]:
    network, tokenizer = writer.network, writer.renderer.tokenizer
    began = time.perf_counter()
    each = sampling.n if sampling.temperature > 0 else 1
    rows = [p.ids for p in batch for _ in range(each)]
    ids, mask = left_padded(rows, batch[0].stops[0], network.device)
    stored = prefill(network, rows) if ids.shape[1] > 1 and len(rows) > 1 and shareable(network) else None
    computed = (len(batch[0].ids) if stored is None else stored.computed + len(rows)) / len(rows)
    recorder = _Recorder(ids.shape[1])
    processors: list[LogitsProcessor] = [recorder]
    if control is not None:
        processors.append(control.processor(tokenizer))
    stop = _TextStop(tokenizer, ids.shape[1], sampling.stop, spaced=spaced(writer, batch[0]))
    config = _configuration(sampling, batch[0].stops, min(sampling.max_tokens, writer.context - ids.shape[1]))
    with _without_defaults(network):
        output = cast(Any, network).generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([stop] if sampling.stop else []),
            streamer=streamer,
            **({} if stored is None else {"past_key_values": stored.cache}),
        )
    logprobs = recorder.finish(output).tolist()
    spent = Usage(computed_tokens=round(computed), seconds=(time.perf_counter() - began) / len(rows))
    written = output[:, ids.shape[1] :].tolist()
    completions = [
        _completion(writer, batch[row // each], written[row], logprobs[row], sampling, spent)
        for row in range(len(rows))
    ]
    # Greedy samples are all the same: written once, given n times.
    return [completions[i * each : (i + 1) * each] * (sampling.n // each) for i in range(len(batch))]


@contextmanager
def _without_defaults(network: PreTrainedModel) -> Iterator[None]:
    """What our own settings leave open transformers takes from the network's: banned words, beams, no cache."""
    own, network.generation_config = network.generation_config, GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask `[rows, longest]`, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _configuration(sampling: Sampling, stops: tuple[int, ...], room: int) -> GenerationConfig:
    draws = sampling.temperature > 0
    options: dict[str, Any] = {}
    if draws:
        options = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
        }
    return GenerationConfig(
        max_new_tokens=room,
        do_sample=draws,
        eos_token_id=list(stops),
        pad_token_id=stops[0],
        **options,
    )


def _completion(
    writer: Writer, prompt: _Prompt, ids: list[int], logprobs: list[float], sampling: Sampling, spent: Usage
) -> Completion:
    """What a row says, cut at its stop token or stop text; `spent` is its share of the batch's reading and time."""
    tokenizer = writer.renderer.tokenizer
    ended = next((i for i, token in enumerate(ids) if token in prompt.stops), None)
    own = ids if ended is None else ids[:ended]
    text, kept, stopped = cut(tokenizer, own, sampling.stop, spaced=spaced(writer, prompt))
    finish = "stop" if stopped or ended is not None else "length"
    said = len(own) + (ended is not None and not stopped)  # behind a stop text there is only padding
    usage = Usage(
        input_tokens=len(prompt.ids),
        output_tokens=said,
        computed_tokens=spent.computed_tokens + said,
        saved_tokens=max(0, len(prompt.ids) - spent.computed_tokens),
        seconds=spent.seconds,
    )
    return Completion(text, tuple(own[:kept]), sum(logprobs[:kept]), "stop" if finish == "stop" else "length", usage)


def cut(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stops: Sequence[str], *, spaced: bool = False
) -> tuple[str, int, bool]:
    """Text before the first stop text, how many tokens it takes, and whether one was found.

    `spaced`: the space at the beginning belongs to the template, as behind the plain template's "Assistant:".
    """
    space = " " if spaced else ""
    text = str(tokenizer.decode(list(ids), skip_special_tokens=True)).removeprefix(space)
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    if not found:
        return text, len(ids), False
    head = text[: min(found)]
    # Not by length alone: the first byte of a character decodes to one character too.
    kept = next(
        n
        for n in range(len(ids) + 1)
        if str(tokenizer.decode(list(ids[:n]), skip_special_tokens=True)).removeprefix(space).startswith(head)
    )
    return head, kept, True


def spaced(writer: Writer, prompt: _Prompt) -> bool:
    """Whether a completion begins with a space that is the template's own."""
    return writer.renderer.plain and not prompt.is_text


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
            chosen = ids[:, self.start + len(self.values), None]
            scores = self.last.float()
            self.values.append(scores.gather(1, chosen)[:, 0] - scores.logsumexp(-1))

    def finish(self, ids: Tensor) -> Tensor:
        """`[rows, tokens]`"""
        self._take(ids)
        return torch.stack(self.values, 1)


class _TextStop(StoppingCriteria):
    """True for rows whose decoded text holds a stop text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int, stops: tuple[str, ...], *, spaced: bool) -> None:
        self.tokenizer, self.start, self.stops = tokenizer, start, stops
        self.space = " " if spaced else ""

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        decoded = self.tokenizer.batch_decode(input_ids[:, self.start :], skip_special_tokens=True)
        texts = [text.removeprefix(self.space) for text in decoded]
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)
