"""Limits on what may come next: shapes are kept, rows stand alone, and something may always follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from condition.errors import ControlError
from condition.protocols import Control, RowProcessor
from condition.testing.networks import embedded_tokenizer
from condition.testing.promises import Promises


def check_control(control: Any, tokenizer: PreTrainedTokenizerBase | None = None, *, steps: int = 12) -> None:
    """The promises of a Control: processors that keep shape and dtype, ban not everything, and know their own rows.

    `tokenizer` is by default the embedded model's. Two texts of up to `steps` tokens are written under the control,
    together and alone. Where nothing may follow any more a processor may raise ControlError; silence is no answer.
    """
    own = Promises(Control, control)
    known = embedded_tokenizer() if tokenizer is None else tokenizer
    made = own.call("processor takes a tokenizer", lambda: control.processor(known))
    own.keeps(callable(made), "processor gives a LogitsProcessor, which is called", f"{type(made).__name__}, {made!r}")
    writing = _Writing(own, control, known, steps)
    for dtype in (torch.float32, torch.bfloat16):
        try:
            writing.step(writing.new(), _BEGUN, writing.scores([0, 1], 0, dtype))
        except _NothingFollowsError as error:
            raise own.broken("something may be said at all", f"ControlError before the first token: {error}") from None
    together = writing.walk([0, 1])
    again = writing.walk([0, 1])
    promise = "each processor begins anew, and allows the same"
    own.keeps(together == again, promise, f"tokens {together}, then {again}")
    for row in (0, 1):
        (alone,) = writing.walk([row])
        promise = "a row among others may say what it may say alone"
        kept = alone[: len(together[row])] == together[row]  # ControlError for one row ends all of them
        own.keeps(kept, promise, f"row {row}: tokens {together[row]} among others, {alone} alone")
    if isinstance(made, RowProcessor):
        _keeps_rows(own, writing)


_BEGUN = torch.tensor([[5, 6], [7, 8]])
"""Two prompts, `[rows, length]`."""


class _Writing:
    """Texts under a control: at each step the likeliest token that is allowed, by numbers drawn for row and step."""

    def __init__(self, own: Promises, control: Control, tokenizer: PreTrainedTokenizerBase, steps: int) -> None:
        self.own, self.control, self.tokenizer, self.steps = own, control, tokenizer, steps
        self.width = len(tokenizer)
        self.end = tokenizer.eos_token_id

    def new(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A processor."""
        return self.own.call("processor takes a tokenizer again", lambda: self.control.processor(self.tokenizer))

    def scores(self, rows: Sequence[int], step: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """`[rows, vocabulary]`."""
        drawn = [torch.Generator().manual_seed(1000 * row + step) for row in rows]
        return torch.stack([torch.randn(self.width, generator=numbers) for numbers in drawn]).to(dtype)

    def step(self, processor: Any, ids: Tensor, scores: Tensor, *, may_end: bool = False) -> Tensor:
        """The limited scores. `may_end`: whether rows that may say nothing are the caller's to find."""
        before, shown = scores.clone(), ids.clone()
        limited: Any = self.own.call("a processor takes ids and scores", lambda: _heard(processor, ids, scores))
        keeps = self.own.keeps
        keeps(isinstance(limited, Tensor), "a processor gives scores", f"{type(limited).__name__}")
        keeps(limited.shape == before.shape, "scores keep their shape", f"{(*limited.shape,)} for {(*before.shape,)}")
        keeps(limited.dtype == before.dtype, "scores keep their dtype", f"{limited.dtype} for {before.dtype}")
        kept = torch.equal(scores, before) and torch.equal(ids, shown)
        keeps(kept, "a processor changes nothing of what it is given", "other numbers in the ids or scores given")
        numbers = not bool(limited.isnan().any()) and not bool((limited == float("inf")).any())
        keeps(numbers, "scores are numbers, or minus infinity", "NaN or infinity")
        left = (limited > float("-inf")).any(-1)
        said = f"nothing for row {(~left).nonzero().flatten().tolist()} behind {ids.shape[1] - 2} tokens, and no error"
        keeps(may_end or bool(left.all()), "some token may follow, or ControlError says that none may", said)
        found: Tensor = limited
        return found

    def walk(self, rows: Sequence[int], *, begin: bool = False, only: int | None = None) -> list[list[int]]:
        """The tokens of each row, to their end, or to where no row has one.

        `begin` tells the processor of the rows, and which go on; from the second token on `only` that one does.
        """
        processor: Any = self.new()
        going, said = list(rows), {row: list[int]() for row in rows}
        ids = _BEGUN[going]
        if begin:
            stops = [() if self.end is None else (self.end,)] * len(going)
            processor.begin(stops, [False] * len(going), self.steps)
        for step in range(self.steps):
            try:
                limited = self.step(processor, ids, self.scores(going, step), may_end=begin)
            except _NothingFollowsError:
                break
            chosen, may = limited.argmax(-1), (limited > float("-inf")).any(-1).tolist()
            for row, token, goes in zip(going, chosen.tolist(), may, strict=True):
                if goes and self.end not in said[row]:
                    said[row].append(token)
            ids = torch.cat([ids, chosen[:, None]], -1)
            kept = [i for i, row in enumerate(going) if may[i] and self.end not in said[row] and only in (None, row)]
            if not kept:
                break
            if begin and len(kept) < len(going):
                processor.keep(kept)
                going, ids = [going[i] for i in kept], ids[kept]
        return [said[row] for row in rows]


class _NothingFollowsError(BaseException):
    """ControlError, which is an answer: not one of the errors that nobody promised."""


def _heard(processor: Any, ids: Tensor, scores: Tensor) -> Any:
    try:
        return processor(ids, scores)
    except ControlError as error:
        raise _NothingFollowsError(str(error)) from error


def _keeps_rows(own: Promises, writing: _Writing) -> None:
    """What goes on is a row that was kept, whatever its number is now."""
    (alone,) = writing.walk([1], begin=True)
    kept = writing.walk([0, 1], begin=True, only=1)[1]
    own.keeps(kept == alone, "keep goes on with the rows it names", f"tokens {kept} for a row that was kept, {alone}")
