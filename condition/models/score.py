"""How likely continuations are: one tree for all prompts that begin alike (`packs`).

A continuation of an empty text, `[Message("text", "")]`, is scored from its first token on, behind the token that
begins texts (or ends them, where there is none), and in windows of the context where it is longer than that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from condition.errors import Interrupted, ModelError
from condition.models.completion import Writer
from condition.models.packs import PACK_TOKENS, passes
from condition.models.render import TURNS
from condition.prefix_sharing.logprobs import logprobs
from condition.prefix_sharing.past import Past
from condition.prefix_sharing.probe import shareable
from condition.types import Messages, Score


class _Line(NamedTuple):
    """One continuation behind its prompt, or a window of one."""

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
    scored = [line for line in lines if len(line.ids) > line.start]
    found: dict[tuple[int, int], list[Score]] = defaultdict(list)
    with TURNS, tqdm(total=len(scored), desc="score", unit="text", delay=3, leave=False) as progress:
        try:
            for places, past in passes(writer.network, [line.ids for line in scored], PACK_TOKENS):
                _measure(writer, [scored[place] for place in places], past, found)
                progress.update(len(places))
        except KeyboardInterrupt:
            raise Interrupted(dict(_whole(found, scored, continuations)), len(prompts)) from None
    return [[_sum(found.get((i, j), [])) for j in range(len(texts))] for i, texts in enumerate(continuations)]


def _measure(writer: Writer, pack: list[_Line], past: Past | None, found: dict[tuple[int, int], list[Score]]) -> None:
    sequences, starts = [line.ids for line in pack], [line.start for line in pack]
    values = logprobs(writer.network, sequences, starts, shared=shareable(writer.network), kept=past)
    sums = torch.stack([value.double().sum() for value in values]).tolist()
    for line, value, own in zip(pack, values, sums, strict=True):
        found[line.prompt, line.choice].append(Score(own, len(value), line.chars))


def _lines(writer: Writer, index: int, messages: Messages, texts: Sequence[str]) -> Iterator[_Line]:
    if isinstance(texts, str):
        raise ModelError(f"prompt {index}: continuations are a list of strings, not one string")
    prompt, continuations = writer.renderer.continuations(messages, texts)
    start = len(prompt)
    for choice, (text, continuation) in enumerate(zip(texts, continuations, strict=True)):
        ids = (*prompt, *continuation)
        if not any(message.content for message in messages):
            yield from _windows(writer, index, choice, ids[start:], len(text))
            continue
        if start == 0:
            raise ModelError(f"prompt {index} has no tokens: nothing is before the continuation")
        if len(ids) > writer.context:
            raise ModelError(
                f"prompt {index} with continuation {choice} has {len(ids):,} tokens and the model's context "
                f"{writer.context:,}; shorten it"
            )
        yield _Line(index, choice, ids, start, len(text))


def _windows(writer: Writer, index: int, choice: int, ids: tuple[int, ...], chars: int) -> Iterator[_Line]:
    """A whole text in windows, each of as many tokens before it as fit, the first behind the token of beginnings."""
    tokenizer, context = writer.renderer.tokenizer, writer.context
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if not isinstance(first, int):
        raise ModelError(f"prompt {index} has no tokens, and the tokenizer has none that begins or ends a text")
    whole = (first, *ids)
    for start in range(1, len(whole), context):
        stop = min(start + context, len(whole))
        begin = max(0, stop - context - 1)
        yield _Line(index, choice, whole[begin:stop], start - begin, chars if start == 1 else 0)


def _sum(pieces: Sequence[Score]) -> Score:
    return Score(
        sum(piece.logprob for piece in pieces), sum(piece.tokens for piece in pieces), sum(p.chars for p in pieces)
    )


def _whole(
    found: dict[tuple[int, int], list[Score]], scored: Sequence[_Line], continuations: Sequence[Sequence[str]]
) -> Iterator[tuple[int, list[Score]]]:
    """The prompts of which every continuation was measured."""
    wanted = Counter((line.prompt, line.choice) for line in scored)
    for i, texts in enumerate(continuations):
        pieces = [found.get((i, j), []) for j in range(len(texts))]
        if all(len(own) == wanted[i, j] for j, own in enumerate(pieces)):
            yield i, [_sum(own) for own in pieces]
