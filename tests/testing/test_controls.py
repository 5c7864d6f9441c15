"""Controls that break a promise are caught."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase, SuppressTokensLogitsProcessor

from condition.control.grammar import Regex
from condition.errors import ControlError
from condition.testing import check_control
from tests.testing.conftest import catch

INF = float("inf")


class Control:
    """Two tokens less; `limit` does it."""

    def processor(self, tokenizer: Any) -> Any:
        return self.limit

    def limit(self, ids: Any, scores: Any) -> Any:
        limited = scores.clone()
        limited[:, 3:5] = -INF
        return limited


class Nothing(Control):
    def processor(self, tokenizer: Any) -> Any:
        return None


class Unknown(Control):
    def processor(self, tokenizer: Any) -> Any:
        raise KeyError("no such tokenizer")


class Raising(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        raise IndexError("out of range")


class Silent(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        return torch.full_like(scores, -INF)


class Mute(Control):
    """Silent behind three tokens."""

    def limit(self, ids: Any, scores: Any) -> Any:
        return torch.full_like(scores, -INF) if ids.shape[1] > 4 else super().limit(ids, scores)


class Impossible(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        raise ControlError("never")


class InPlace(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        scores[:, 3] = -INF
        return scores


class Wide(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        return scores.float()


class Narrow(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        return scores[:, :-1]


class First(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        return scores[0]


class Broken(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        return scores * float("nan")


class Numpy(Control):
    def limit(self, ids: Any, scores: Any) -> Any:
        return scores.float().numpy()


class Leaking(Control):
    """What one row may say depends on how many there are."""

    def limit(self, ids: Any, scores: Any) -> Any:
        limited = scores.clone()
        if len(ids) > 1:
            limited[:, : scores.shape[1] // 2] = -INF
        return limited


class Remembering(Control):
    """One processor for all calls, which lets through fewer tokens each time."""

    steps = 0

    def limit(self, ids: Any, scores: Any) -> Any:
        self.steps += 1
        limited = scores.clone()
        limited[:, : 8 * self.steps] = -INF
        return limited


class Keeping(Control):
    """Takes rows that were kept for others, which may say less."""

    def processor(self, tokenizer: Any) -> Any:
        return KeepingProcessor()


class KeepingProcessor:
    mixed = False

    def begin(self, stops: Any, spaced: Any, most: int) -> None: ...

    def keep(self, rows: Any) -> None:
        self.mixed = True

    def __call__(self, ids: Any, scores: Any) -> Any:
        limited = scores.clone()
        if self.mixed:
            limited[:, : scores.shape[1] // 2] = -INF
        return limited


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "it has processor. Seen: object without processor"),
        (Control, "it is an object, not its class"),
        (Nothing(), "processor gives a LogitsProcessor, which is called. Seen: NoneType"),
        (Unknown(), "processor takes a tokenizer. Seen: KeyError"),
        (Raising(), "a processor takes ids and scores. Seen: IndexError: out of range"),
        (Silent(), "some token may follow, or ControlError says that none may. Seen: nothing for row [0, 1]"),
        (Mute(), "some token may follow, or ControlError says that none may. Seen: nothing for row [0, 1] behind 3"),
        (Impossible(), "something may be said at all. Seen: ControlError before the first token: never"),
        (InPlace(), "a processor changes nothing of what it is given"),
        (Wide(), "scores keep their dtype. Seen: torch.float32 for torch.bfloat16"),
        (Narrow(), "scores keep their shape. Seen: (2, 511) for (2, 512)"),
        (First(), "scores keep their shape. Seen: (512,) for (2, 512)"),
        (Broken(), "scores are numbers, or minus infinity"),
        (Numpy(), "a processor gives scores. Seen: ndarray"),
        (Leaking(), "a row among others may say what it may say alone"),
        (Remembering(), "each processor begins anew, and allows the same"),
        (Keeping(), "keep goes on with the rows it names"),
    ],
)
def test_a_control_that_breaks_a_promise(block: Any, words: str, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    catch(words, check_control, block, tiny_tokenizer)


def test_whole_controls(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    class NoThree(Control):
        def processor(self, tokenizer: Any) -> Any:
            return SuppressTokensLogitsProcessor([3])

    check_control(Control(), tiny_tokenizer)
    check_control(NoThree(), tiny_tokenizer)
    check_control(Regex("a+b"), tiny_tokenizer)
