"""Many answers from prompts that are read and stored once.

Each step is one packed row with the newest token of every sample; `memory.Memory` is what their attention reads.
Samples that are finished leave. The numbers are those of the plain path; `probe.shareable` says where they can be had.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel

from condition.errors import ControlError
from condition.prefix_sharing.choose import choose, uniforms
from condition.prefix_sharing.head import gather_logprobs
from condition.prefix_sharing.logprobs import output_head
from condition.prefix_sharing.memory import Memory, Stored
from condition.protocols import RowProcessor
from condition.types import Sampling

WORTH_LEAVING = 0.75
"""Share of rows that are still written below which the finished ones are taken out."""


class Drawn(NamedTuple):
    """A token that a sample says next."""

    sample: int
    """`prompt * samples + number`"""
    token: int
    logprob: float
    """Of the token under the model's own distribution, at temperature 1 and without limits; natural log."""


@final
class Decoder:
    """Writes `sampling.n` samples for each stored prompt, or those with some `numbers` of them, a token a step.

    `twins` tell equal prompts apart, as in `uniforms`.
    `stops[i]` are the tokens that end a sample of prompt i. Whoever calls may `end` samples for reasons of their own.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        stored: Stored,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        stops: Sequence[Collection[int]],
        processor: LogitsProcessor | None = None,
        *,
        numbers: range | None = None,
        twins: Sequence[int] | None = None,
        most: int | None = None,
    ) -> None:
        self.network, self.sampling, self.stops, self.processor = network, sampling, stops, processor
        self.most = sampling.max_tokens if most is None else most
        """Tokens that a sample may say."""
        numbers = range(sampling.n) if numbers is None else numbers
        self.samples = each = len(numbers)
        """Of each prompt."""
        self._uniforms = (
            uniforms(sampling.seed, prompts, numbers, self.most, twins) if sampling.temperature > 0 else None
        )
        self._memory = Memory(stored, each, self.most)
        self._rows = list(range(len(prompts) * each))  # the sample in each row; a row may be idle
        self._live = set(self._rows)
        self.blocked: set[int] = set()
        """Samples that ended because the processor let no token follow."""
        self._drawn = 0
        self._pad = next(iter(stops[0]), 0)
        self._logits = self._head(stored.hidden).repeat_interleave(each, 0)
        self._said: Tensor | None = None  # [rows, padded prompt + said], for the processor alone
        if processor is not None:
            longest = max(map(len, prompts))
            padded = torch.tensor([[self._pad] * (longest - len(p)) + list(p) for p in prompts], device=network.device)
            self._said = padded.repeat_interleave(each, 0)

    @property
    def said(self) -> int:
        """Tokens drawn for each unfinished sample."""
        return self._drawn

    @property
    def live(self) -> frozenset[int]:
        """Samples that are not finished."""
        return frozenset(self._live)

    @property
    def done(self) -> bool:
        """Whether every sample is finished."""
        return not self._live

    def end(self, sample: int) -> None:
        """A sample is finished."""
        self._live.discard(sample)

    @torch.inference_mode()
    def step(self) -> list[Drawn]:
        """The next token of each unfinished sample; a stop token ends its sample.

        Raises ControlError where the processor lets no token begin; later on, that ends the sample.
        """
        logits = self._logits.float()
        limited = logits
        if self.processor is not None and self._said is not None:
            limited = self._end_blocked(logits, cast(Tensor, self.processor(self._said, logits.clone())))
        step = self._memory.said
        uniform = torch.zeros(len(self._rows)) if self._uniforms is None else self._uniforms[self._rows, step]
        tokens = choose(limited, self.sampling, uniform.to(logits.device))
        if self.processor is not None:  # shown what `generate` would show it
            idle = torch.tensor([sample not in self._live for sample in self._rows], device=tokens.device)
            tokens = tokens.masked_fill(idle, self._pad)
        chosen = gather_logprobs(logits, tokens).tolist()
        drawn = [
            Drawn(sample, token, logprob)
            for sample, token, logprob in zip(self._rows, tokens.tolist(), chosen, strict=True)
            if sample in self._live
        ]
        for sample, token, _ in drawn:
            if token in self.stops[sample // self.samples] or step + 1 == self.most:
                self._live.discard(sample)
        self._tokens = tokens
        self._drawn = step + 1
        return drawn

    def _end_blocked(self, logits: Tensor, limited: Tensor) -> Tensor:
        """The limited logits; rows without any that is left get what was there before, for nobody to read."""
        blocked = (limited == float("-inf")).all(-1)
        ended = [s for none, s in zip(blocked.tolist(), self._rows, strict=True) if none and s in self._live]
        if ended and not self._drawn:
            raise ControlError("no token may come first: the control can't be satisfied behind this prompt; loosen it")
        self._live.difference_update(ended)
        self.blocked.update(ended)
        return torch.where(blocked[:, None], logits, limited)

    @torch.inference_mode()
    def read(self) -> None:
        """Let the network read what was drawn, after `step` and all `end`."""
        if self._said is not None:
            self._said = torch.cat([self._said, self._tokens[:, None]], 1)
        self._leave()
        self._memory.make_room()
        output = cast(Any, self.network.base_model)(
            input_ids=self._tokens[None],
            position_ids=self._memory.positions[None],
            attention_mask=torch.zeros(1, 1, 1, 1, device=self.network.device),
            use_cache=False,
            shared=self._memory,
        )
        self._memory.said += 1
        self._logits = self._head(output.last_hidden_state[0])

    def _leave(self) -> None:
        """Take finished samples out. Prompts keep equally many rows, so some finished ones may stay, idle.

        With a processor that is no RowProcessor all stay: it may know its samples by their row.
        """
        fixed = self.processor is not None and not isinstance(self.processor, RowProcessor)
        if fixed or len(self._live) > WORTH_LEAVING * len(self._rows):
            return
        left: dict[int, list[int]] = {}
        for row, sample in enumerate(self._rows):
            if sample in self._live:
                left.setdefault(sample // self.samples, []).append(row)
        most = max(map(len, left.values()))
        rows = [row for own in left.values() for row in (own * most)[:most]]
        if len(rows) == len(self._rows):
            return
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(s // self.samples for s in self._rows))}
        index = torch.tensor(rows, device=self.network.device)
        self._memory.keep(index, torch.tensor([numbers[prompt] for prompt in left], device=self.network.device))
        self._tokens = self._tokens[index]
        if self._said is not None and isinstance(self.processor, RowProcessor):
            self._said = self._said[index]
            self.processor.keep(rows)
        # A row that stands twice is written once: the second is idle, under a number that is not live.
        seen: set[int] = set()
        samples = [self._rows[row] for row in rows]
        self._rows = []
        for sample in samples:
            prompt = sample // self.samples
            self._rows.append(sample if sample not in seen else self._idle(prompt))
            seen.add(sample)

    def _idle(self, prompt: int) -> int:
        """The number of a finished sample of a prompt."""
        first = prompt * self.samples
        return next(s for s in range(first, first + self.samples) if s not in self._live)

    @torch.inference_mode()
    def _head(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, output_head(self.network)(hidden))
