"""How likely continuations are: one tree for all prompts that begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from condition.errors import Interrupted, ModelError
from condition.models.completion import Writer
from condition.models.remember import kept
from condition.models.render import TURNS
from condition.prefix_sharing.layout import common_prefix
from condition.prefix_sharing.logprobs import logprobs
from condition.prefix_sharing.probe import shareable
from condition.types import Messages, Score

PACK_TOKENS = 4096
"""Tokens that go through the network at once."""


class _Line(NamedTuple):
    """One continuation behind its prompt."""

    prompt: int
    choice: int
    ids: tuple[int, ...]
    start: int
    chars: int


@torch.inference_mode()
def score(writer: Writer, prompts: Sequence[Messages], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
    """A Score for each continuation of each prompt. An empty continuation has log-probability 0.

    Raises ModelError where the two lists differ in length or a line does not fit the context.
    """
    if len(prompts) != len(continuations):
        raise ModelError(
            f"{len(prompts)} prompts and {len(continuations)} lists of continuations; one list a prompt, please"
        )
    lines = [line for i, messages in enumerate(prompts) for line in _lines(writer, i, messages, continuations[i])]
    found: dict[tuple[int, int], Score] = {}
    scored = [line for line in lines if len(line.ids) > line.start]
    with TURNS, tqdm(total=len(scored), desc="score", unit="text", delay=3, leave=False) as progress:
        try:
            for pack in _packs(scored):
                _measure(writer, pack, found)
                progress.update(len(pack))
        except KeyboardInterrupt:
            raise Interrupted(dict(_whole(found, continuations)), len(prompts)) from None
    empty = Score(0.0, 0, 0)
    return [[found.get((i, j), empty) for j in range(len(texts))] for i, texts in enumerate(continuations)]


def _measure(writer: Writer, pack: list[_Line], found: dict[tuple[int, int], Score]) -> None:
    shared, sequences = shareable(writer.network), [line.ids for line in pack]
    past = kept(writer.network, sequences) if shared else None
    values = logprobs(writer.network, sequences, [line.start for line in pack], shared=shared, kept=past)
    for line, value in zip(pack, values, strict=True):
        found[line.prompt, line.choice] = Score(float(value.double().sum()), len(value), line.chars)


def _lines(writer: Writer, index: int, messages: Messages, texts: Sequence[str]) -> Iterator[_Line]:
    if isinstance(texts, str):
        raise ModelError(f"prompt {index}: continuations are a list of strings, not one string")
    for choice, text in enumerate(texts):
        rendered = writer.renderer.render(messages, text)
        start = len(rendered.prompt_ids)
        ids = rendered.ids[:-1]  # the stop token is not part of the continuation
        if start == 0:
            raise ModelError(f"prompt {index} has no tokens: nothing is before the continuation")
        if len(ids) > writer.context:
            raise ModelError(
                f"prompt {index} with continuation {choice}: {len(ids):,} tokens, context {writer.context:,}"
            )
        yield _Line(index, choice, ids, start, len(text))


def _packs(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Lines in the order of their tokens, so that those which begin alike meet in one pack."""
    pack: list[_Line] = []
    size = 0
    before: tuple[int, ...] = ()
    for line in sorted(lines, key=lambda line: line.ids):
        new = len(line.ids) - (common_prefix(before, line.ids) if pack else 0)
        if pack and size + new > PACK_TOKENS:
            yield pack
            pack, size, new = [], 0, len(line.ids)
        pack.append(line)
        size += new
        before = line.ids
    if pack:
        yield pack


def _whole(
    found: dict[tuple[int, int], Score], continuations: Sequence[Sequence[str]]
) -> Iterator[tuple[int, list[Score]]]:
    for i, texts in enumerate(continuations):
        scores = [found[i, j] for j in range(len(texts)) if (i, j) in found]
        if len(scores) == len(texts):
            yield i, scores
