"""What is written for a prompt: the prompt as read, and tokens as text, cut where they should stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from condition.control.vocabulary import drops_space
from condition.errors import ModelError
from condition.models.render import Renderer
from condition.models.room import Room
from condition.protocols import Control, RowProcessor
from condition.types import Completion, Messages, Sampling, Usage

Wanted = Callable[[int], bool]
"""Says between two tokens whether the prompt at a place of the call still has somebody who waits for its answer."""


class Writer(NamedTuple):
    """What writes: a network with the renderer that reads for it."""

    network: PreTrainedModel
    renderer: Renderer
    context: int
    """Most tokens, prompt and completion together."""
    room: Room
    """What is written at once."""


class Asked(NamedTuple):
    """A prompt that is to be answered."""

    place: int
    """Among the prompts of the call."""
    ids: tuple[int, ...]
    stops: tuple[int, ...]
    is_text: bool
    twin: int = 0
    """How many equal prompts stand before it in the call."""


def stop_tokens(renderer: Renderer, messages: Messages) -> tuple[int, ...]:
    """Tokens that end a completion: the turn's own and the end of text."""
    own = renderer.stop_token(messages)
    end = renderer.tokenizer.eos_token_id
    return (own,) if end is None or end == own else (own, end)


def read_prompt(writer: Writer, messages: Messages) -> tuple[int, ...]:
    """A prompt's ids. Raises ModelError where it leaves no room for an answer."""
    ids = writer.renderer.render(messages).ids
    if not ids:
        raise ModelError("the prompt is empty, no token stands before the answer: give at least one word")
    if len(ids) >= writer.context:
        raise ModelError(f"the prompt has {len(ids):,} tokens and the model's context {writer.context:,}; shorten it")
    return ids


def asked(writer: Writer, index: int, messages: Messages, *, of: int = 1) -> Asked:
    """A prompt of a call as read. Raises ModelError, which names it among several, where no answer has room."""
    try:
        ids = read_prompt(writer, messages)
    except ModelError as error:
        raise ModelError(f"prompt {index}: {error}" if of > 1 else str(error)) from None
    return Asked(index, ids, stop_tokens(writer.renderer, messages), messages[0].role == "text")


def processor(
    control: Control | None, writer: Writer, batch: Sequence[Asked], each: int, most: int
) -> LogitsProcessor | None:
    """What limits `each` samples of every prompt, in this order, to `most` tokens at the most."""
    if control is None:
        return None
    made = control.processor(writer.renderer.tokenizer)
    if isinstance(made, RowProcessor):
        rows = [prompt for prompt in batch for _ in range(each)]
        made.begin([prompt.stops for prompt in rows], [spaced(writer, prompt) for prompt in rows], most)
    return made


def completion(
    writer: Writer,
    prompt: Asked,
    ids: list[int],
    logprobs: list[float],
    sampling: Sampling,
    spent: Usage,
    *,
    blocked: bool = False,
) -> Completion:
    """What a row says, cut at its stop token or stop text; `spent` is its share of the batch's reading and time.

    `blocked`: a control let nothing follow. Raises ModelError where the network gave no numbers.
    """
    tokenizer = writer.renderer.tokenizer
    ended = next((i for i, token in enumerate(ids) if token in prompt.stops), None)
    own = ids if ended is None else ids[:ended]
    text, kept, stopped = cut(tokenizer, own, sampling.stop, spaced=spaced(writer, prompt))
    finish: Literal["stop", "length", "control"] = "stop" if stopped or ended is not None else "length"
    if blocked and not stopped:
        finish = "control"
    if finish != "stop":
        text = whole(text)
    said = len(own) + (ended is not None and finish == "stop" and not stopped)  # behind a stop text is only padding
    usage = Usage(
        input_tokens=len(prompt.ids),
        output_tokens=said,
        computed_tokens=spent.computed_tokens + said,
        saved_tokens=max(0, len(prompt.ids) - spent.computed_tokens),
        seconds=spent.seconds,
    )
    each = tuple(logprobs[:kept])
    if math.isnan(sum(each)):
        raise ModelError(
            "the network gives no numbers (NaN) as log-probabilities, so what it says means nothing: its weights are "
            "damaged or its precision overflows; load it with dtype='float32'"
        )
    return Completion(text, tuple(own[:kept]), sum(each), finish, usage, each)


def cut(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stops: Sequence[str], *, spaced: bool = False
) -> tuple[str, int, bool]:
    """Text before the first stop text, how many tokens it takes, and whether one was found.

    `spaced`: the space at the beginning belongs to the template, as behind the plain template's "Assistant:".
    """
    space = " " if spaced else ""
    text = text_of(tokenizer, ids).removeprefix(space)
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    if not found:
        return text, len(ids), False
    head = text[: min(found)]
    # Not by length alone: the first byte of a character decodes to one character too.
    kept = next(n for n in range(len(ids) + 1) if text_of(tokenizer, ids[:n]).removeprefix(space).startswith(head))
    return head, kept, True


def whole(text: str) -> str:
    """Text that was cut off, without the bytes of a character that is not all there; its tokens keep them."""
    return text.rstrip("\ufffd")


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What tokens say: special ones nothing, and no space is taken away before a sign."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def spaced(writer: Writer, prompt: Asked) -> bool:
    """Whether a completion begins with a space that is the template's own, and that decoding does not leave out."""
    return writer.renderer.plain and not prompt.is_text and not drops_space(writer.renderer.tokenizer)


def grouped(completions: Sequence[Completion], prompts: int, sampling: Sampling) -> list[list[Completion]]:
    """Completions by prompt. Greedy samples are all the same: written once, given n times, and paid for once."""
    each = len(completions) // prompts
    free = Usage()
    groups = []
    for i in range(prompts):
        own = list(completions[i * each : (i + 1) * each])
        copies = [c.model_copy(update={"usage": free}) for c in own * (sampling.n // each - 1)]
        groups.append(own + copies)
    return groups
