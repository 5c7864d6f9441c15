"""Which rows meet in a batch."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from condition.training.packing import AlikeSampler, alike
from condition.training.rows import Row


def rows(sizes: list[int]) -> list[Row]:
    """Rows on passages, `sizes[i]` of them on the i-th."""
    return [Row((*([i] * 40), 1000 + n, 9), 41) for i, size in enumerate(sizes) for n in range(size)]


def passages(order: list[int], given: list[Row], batch_size: int) -> list[Counter[int]]:
    """How often each passage stands in each batch."""
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [Counter(given[i].ids[0] for i in batch) for batch in batches]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 3))
def test_every_row_once_an_epoch(sizes: list[int], batch_size: int, seed: int) -> None:
    sampler = AlikeSampler(rows(sizes), batch_size, seed)
    assert len(sampler) == sum(sizes)
    assert sorted(sampler) == list(range(sum(sizes)))


def test_each_epoch_has_an_order_of_its_own_and_the_same_again() -> None:
    sampler, again = (AlikeSampler(rows([5, 4, 5]), 4, seed=0) for _ in range(2))
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    again.set_epoch(1)
    assert list(again) == second
    assert list(AlikeSampler(rows([5, 4, 5]), 4, seed=1)) != first


def test_a_passage_stays_in_one_batch() -> None:
    data = rows([3, 4, 5, 2, 6] * 20)
    batches = passages(list(AlikeSampler(data, 20, seed=0)), data, 20)
    read = sum(len(batch) for batch in batches)
    assert read <= 105  # each passage once, but for the few that fill a batch


def test_rows_that_begin_alike_lie_together() -> None:
    header = tuple(range(40))
    data = [Row((*header, 90 + i, 7), 41) for i in range(3)] + [Row((99, *header, 7), 41)] + [Row((*header, 80, 7), 41)]
    runs = alike(data)
    assert sorted(map(sorted, runs)) == [[0, 1, 2, 4], [3]]
    assert sorted(i for run in runs for i in run) == list(range(5))
