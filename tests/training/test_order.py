"""Rows by their length, and every one once an epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.training.candidates import Candidates
from condition.training.order import LengthSampler, Order, size_of
from condition.training.rows import Row


def rows(lengths: list[int]) -> list[Row]:
    return [Row((7,) * length, length - 1) for length in lengths]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 3))
def test_every_row_once_an_epoch(lengths: list[int], batch_size: int, epoch: int) -> None:
    for order in ("by-length", "short-first"):
        sampler = LengthSampler(rows(lengths), batch_size, seed=0, order=order)
        sampler.set_epoch(epoch)
        assert sorted(sampler) == list(range(len(lengths)))
        assert list(sampler) == list(sampler)
        assert len(sampler) == len(lengths)


def test_a_batch_holds_rows_of_like_length() -> None:
    lengths = [2 + i % 10 for i in range(100)]
    order = list(LengthSampler(rows(lengths), 10, seed=0, order="by-length"))
    batches = [{lengths[i] for i in order[b : b + 10]} for b in range(0, 100, 10)]
    assert all(len(batch) == 1 for batch in batches)
    assert [min(batch) for batch in batches] != sorted(min(batch) for batch in batches)


def test_candidates_are_as_long_as_their_tree() -> None:
    """Not as the best one alone."""
    short, long = (Candidates((7,) * 4, ((7,) * 2, (7,) * worse)) for worse in (3, 90))
    middle = Candidates((7,) * 20, ((7,) * 20, (7,) * 2))
    assert [size_of(row) for row in (short, long, middle)] == [9, 96, 42]
    assert list(LengthSampler([long, middle, short], 1, seed=0, order="short-first")) == [2, 1, 0]


@pytest.mark.parametrize("order", ["by-length", "short-first"])
def test_epochs_and_seeds_differ(order: Order) -> None:
    data = rows([2 + i % 10 for i in range(100)])
    one = LengthSampler(data, 10, seed=0, order=order)
    first = list(one)
    assert list(LengthSampler(data, 10, seed=1, order=order)) != first
    one.set_epoch(1)
    assert list(one) != first


def test_a_curriculum_is_the_first_epoch_only() -> None:
    lengths = [9, 3, 5, 2, 8, 4, 7, 6]
    sampler = LengthSampler(rows(lengths), 2, seed=0, order="short-first")
    assert [lengths[i] for i in sampler] == sorted(lengths)
    sampler.set_epoch(1)
    assert [lengths[i] for i in sampler] != sorted(lengths)
