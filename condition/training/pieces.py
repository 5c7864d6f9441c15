"""A batch in pieces that fit into memory: the gradients of the pieces add up to that of the whole batch.

The loss is a sum over rows divided by a number that is known before, so the optimizer sees the same batch whatever the
pieces. Where memory runs out the pieces are halved, and what was computed of the step is computed again.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, final

import torch

from condition.errors import ModelError
from condition.training.rows import Batch, collate

log = logging.getLogger("condition")
T = TypeVar("T")

SIGNS = ("out of memory", "can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says where memory runs out, on whichever device."""


@final
class Pieces:
    """How many rows go through the network at once: all of a batch, until that does not fit."""

    def __init__(self, most: int | None = None, *, may_shrink: bool = True) -> None:
        self.most = most
        self.may_shrink = may_shrink

    def of(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """The pieces of a batch."""
        batch: Batch = inputs["batch"]
        if self.most is None or len(batch.rows) <= self.most:
            return [inputs]
        return [collate(batch.rows[i : i + self.most]) for i in range(0, len(batch.rows), self.most)]

    def run(
        self, batches: Sequence[dict[str, Any]], work: Callable[[dict[str, Any]], T], forget: Callable[[], None]
    ) -> T:
        """`work` of the last batch. Where memory runs out, `forget`, then all batches again in smaller pieces.

        Raises ModelError where a single row does not fit.
        """
        todo = batches[-1:]
        while True:
            try:
                return [work(batch) for batch in todo][-1]
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error) or not self.may_shrink:
                    raise
                self._shrink(batches[-1]["batch"], error)
            # Behind the handler: while an error is handled its traceback holds the tensors that filled the memory.
            forget()
            release()
            todo = batches

    def _shrink(self, batch: Batch, error: Exception) -> None:
        now = min(len(batch.rows), self.most or len(batch.rows))
        if now == 1:
            longest = max(getattr(row, "size", len(row.ids)) for row in batch.rows)
            raise ModelError(
                f"memory runs out with a single row of {longest:,} tokens ({str(error).partition(chr(10))[0]:.120}). "
                f"Use Settings(checkpointing=True), a smaller max_length, or load the base with quantization"
            ) from error
        self.most = now // 2
        log.warning("memory ran out with %s rows at once: going on with %s, and the same batches", now, self.most)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)


def release() -> None:
    """Give back what is held for tensors that are gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
