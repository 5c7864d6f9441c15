"""A batch in pieces: the same gradient, halved where memory runs out, and what was half done is done again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from condition.errors import ModelError
from condition.training.pieces import Pieces, ran_out
from condition.training.rows import Row, collate

ROWS = [Row((1, 2, i), 1) for i in range(8)]
FULL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


class Machine:
    """Adds up what goes through it, and has memory for so many rows; it notices when half of the work is done."""

    def __init__(self, room: int) -> None:
        self.room, self.total, self.calls = room, 0, 0

    def piece(self, inputs: dict[str, Any]) -> int:
        rows = inputs["batch"].rows
        self.total += sum(row.ids[2] for row in rows[: self.room])
        self.calls += 1
        if len(rows) > self.room:
            raise RuntimeError(FULL)
        return sum(row.ids[2] for row in rows)

    def forget(self) -> None:
        self.total = 0


def test_pieces_of_a_batch() -> None:
    batch = collate(ROWS)
    assert Pieces().of(batch) == [batch]
    assert [len(piece["batch"].rows) for piece in Pieces(3).of(batch)] == [3, 3, 2]
    assert torch.cat([piece["labels"] for piece in Pieces(3).of(batch)]).tolist() == batch["labels"].tolist()


@pytest.mark.parametrize(("room", "most"), [(8, None), (5, 4), (2, 2), (1, 1)])
def test_a_step_is_done_again_in_smaller_pieces(room: int, most: int | None) -> None:
    pieces, machine = Pieces(), Machine(room)

    def work(batch: dict[str, Any]) -> int:
        return sum(machine.piece(piece) for piece in pieces.of(batch))

    small, large = collate(ROWS[:1]), collate(ROWS)
    assert pieces.run([small], work, machine.forget) == 0
    assert pieces.run([small, large], work, machine.forget) == sum(range(8))
    assert machine.total == sum(range(8))
    assert pieces.most == most
    machine.calls = 0
    pieces.run([large], work, machine.forget)
    assert machine.calls == (1 if most is None else 8 // most)


def test_one_row_that_does_not_fit() -> None:
    pieces, machine = Pieces(), Machine(0)
    with pytest.raises(ModelError, match=r"a single row of 3 tokens .*9 bytes.*Settings\(checkpointing=True\)"):
        pieces.run([collate(ROWS)], lambda b: [machine.piece(p) for p in pieces.of(b)], machine.forget)


def test_other_errors_pass() -> None:
    def broken(batch: dict[str, Any]) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        Pieces().run([collate(ROWS)], broken, lambda: None)


def test_several_processes_do_not_shrink_alone() -> None:
    machine = Machine(1)
    with pytest.raises(RuntimeError, match="allocate"):
        Pieces(may_shrink=False).run([collate(ROWS)], machine.piece, machine.forget)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError(FULL), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, is_memory: bool) -> None:
    assert ran_out(error) is is_memory
