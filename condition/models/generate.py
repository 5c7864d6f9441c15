"""Completions from a local network, in batches of like length.

Stop texts are looked for in decoded text, so they are found wherever the tokens are cut, and are not part of the
completion. Log-probabilities are the model's own, at temperature 1, before any limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm

from condition.errors import Interrupted
from condition.models.completion import Asked, Wanted, Writer, asked
from condition.models.fallback import write_plainly
from condition.models.render import TURNS
from condition.models.seeded import seeded
from condition.models.writing import write_shared
from condition.prefix_sharing.layout import common_prefix
from condition.prefix_sharing.probe import shareable
from condition.protocols import Control
from condition.types import Completion, Messages, Sampling

BATCH_TOKENS = 8192
"""Tokens of one batch that are stored, padding included, without what its prompts share where that is stored once."""
BATCH_ROWS = 32


def generate(
    writer: Writer,
    prompts: Sequence[Messages],
    sampling: Sampling,
    control: Control | None = None,
    *,
    wanted: Wanted | None = None,
) -> list[list[Completion]]:
    """`sampling.n` completions for each prompt, in the order given; a prompt that is no longer `wanted` ends early.

    Raises ModelError before any work for a prompt that leaves no room in the context, and `Interrupted`, which holds
    what was finished, on Ctrl-C: whole batches, and of the one at work what had come to its stop.
    """
    read = _told_apart([asked(writer, i, messages, of=len(prompts)) for i, messages in enumerate(prompts)])
    shared = shareable(writer.network)
    write = write_shared if shared else write_plainly
    finished: dict[int, list[Completion]] = {}
    rows = tqdm(total=len(read), desc="generate", unit="prompt", delay=3, leave=False)
    with rows, TURNS, seeded(sampling.seed):
        try:
            for batch in batches(read, sampling, writer, shared=shared):
                written = write(writer, batch, sampling, control, wanted=wanted)
                finished |= {prompt.place: own for prompt, own in zip(batch, written, strict=True)}
                rows.update(len(batch))
        except KeyboardInterrupt as stop:
            inside = stop.finished if isinstance(stop, Interrupted) else {}
            raise Interrupted(finished | inside, len(read)) from None
    return [finished[i] for i in range(len(read))]


def _told_apart(prompts: list[Asked]) -> list[Asked]:
    """Equal prompts of a call get samples of their own."""
    seen: Counter[tuple[int, ...]] = Counter()
    for i, prompt in enumerate(prompts):
        prompts[i] = prompt._replace(twin=seen[prompt.ids])
        seen[prompt.ids] += 1
    return prompts


def batches(prompts: list[Asked], sampling: Sampling, writer: Writer, *, shared: bool) -> Iterator[list[Asked]]:
    """Prompts of like length and kind, longest first, so that too little memory shows at once.

    Among those of like length, prompts that begin alike lie together: their beginning is computed once.
    """
    each = sampling.n if sampling.temperature > 0 else 1
    batch: list[Asked] = []
    common = 0
    for prompt in sorted(prompts, key=lambda p: (p.is_text, -(len(p.ids) // 64), p.ids)):
        rows = (len(batch) + 1) * each
        lengths = {len(p.ids) for p in (*batch, prompt)}
        alike = min(common, common_prefix(batch[0].ids, prompt.ids)) if batch else len(prompt.ids)
        before = (len(batch) + 1) * (max(lengths) - alike) if shared else rows * max(lengths)
        tokens = before + rows * sampling.max_tokens
        too_many = rows > BATCH_ROWS or tokens > BATCH_TOKENS or not writer.room.fits(tokens, rows)
        # Beside a prompt that nearly fills the context, a shorter one would be cut off early.
        too_many |= len(lengths) > 1 and max(lengths) + sampling.max_tokens > writer.context
        if batch and (too_many or batch[0].is_text != prompt.is_text):
            yield batch
            batch, alike = [], len(prompt.ids)
        batch.append(prompt)
        common = alike
    if batch:
        yield batch
