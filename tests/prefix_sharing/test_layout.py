"""Trees against what they mean: each sequence is a path through the packed row, and sees itself and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.prefix_sharing import layout
from condition.prefix_sharing.layout import Packed, lay, pack

tokens = st.lists(st.integers(0, 2), min_size=2, max_size=14)  # three tokens: many common beginnings
batches = st.lists(tokens, min_size=1, max_size=7)
savings = st.sampled_from([1, 2, 5, layout.MINIMUM_SAVING, None])
limits = st.sampled_from([0, 3, 8, layout.DENSE_LIMIT])


def seen(packed: Packed) -> dict[int, list[int]]:
    """For each place of the row, the places that it attends to, in the order of its keys."""
    found: dict[int, list[int]] = {}
    for block in packed.blocks:
        for i, query in enumerate(block.queries):
            assert query not in found, "a token is a query once"
            if block.mask is None:
                assert block.queries == block.keys
                found[query] = block.keys[: i + 1]
            else:
                assert block.mask.shape == (len(block.queries), len(block.keys))
                found[query] = [key for key, visible in zip(block.keys, block.mask[i].tolist(), strict=True) if visible]
    return found


@given(batches, savings, limits, st.data())
def test_each_scored_token_is_predicted_from_its_own_sequence(
    sequences: list[list[int]], minimum: int | None, limit: int, data: st.DataObject
) -> None:
    starts = [data.draw(st.integers(1, len(s) - 1)) for s in sequences]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "DENSE_LIMIT", limit)
        packed = pack(sequences, starts, minimum_saving=minimum)
    ids, positions, sight = packed.ids[0].tolist(), packed.positions[0].tolist(), seen(packed)
    assert set(sight) == set(range(len(ids)))
    number = 0
    for owner, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        for place in range(start, len(sequence)):
            predictor = int(packed.predictors[number])
            assert int(packed.targets[number]) == sequence[place]
            assert int(packed.owners[number]) == owner
            visible = sight[predictor]
            assert [ids[v] for v in visible] == sequence[:place]
            assert [positions[v] for v in visible] == list(range(place))
            assert visible[-1] == predictor
            number += 1
    assert number == len(packed.targets) == len(packed.predictors) == len(packed.owners)
    assert packed.sequences == len(sequences)
    assert packed.saved == sum(len(s) - 1 for s in sequences) - len(ids)
    assert packed.saved >= 0


@given(batches)
def test_with_a_minimum_of_one_no_prefix_is_read_twice(sequences: list[list[int]]) -> None:
    packed = pack(sequences, [1] * len(sequences), minimum_saving=1)
    distinct = {tuple(s[:n]) for s in sequences for n in range(1, len(s))}
    # The most saving cut comes first, so a shorter prefix may be read again; but never more than without sharing.
    assert len(distinct) <= packed.ids.shape[1] <= sum(len(s) - 1 for s in sequences)
    if len(sequences) == 2:
        assert packed.ids.shape[1] == len(distinct)


@given(batches)
def test_without_sharing_rows_keep_their_order_and_their_tokens(sequences: list[list[int]]) -> None:
    packed = pack(sequences, [1] * len(sequences), minimum_saving=None)
    assert packed.ids[0].tolist() == [t for s in sequences for t in s[:-1]]
    assert packed.saved == 0
    assert all(block.mask is None for block in packed.blocks)


def test_the_tree_of_the_docstring() -> None:
    the, cat, sat, ran, off, on = range(6)
    laid = lay([[the, cat, sat], [the, cat, ran, off], [the, cat, ran, on]], minimum_saving=1)
    assert laid.row == [the, cat, sat, ran, off, on]
    assert laid.positions == [0, 1, 2, 2, 3, 3]
    assert laid.places == [[0, 1, 2], [0, 1, 3, 4], [0, 1, 3, 5]]


def test_k_branches_cost_a_prompt_and_k_completions() -> None:
    prompt = list(range(100, 150))
    branches = [[*prompt, *range(10 * k, 10 * k + 8), 0] for k in range(4)]
    packed = pack(branches, [50] * 4)
    assert packed.ids.shape == (1, 50 + 4 * 8)
    assert packed.saved == 3 * 50


@pytest.mark.parametrize(("common", "rows"), [(16, 50 - 16), (15, 50)])
def test_a_prefix_is_shared_from_the_minimum_on(common: int, rows: int) -> None:
    one = list(range(common)) + [100 + i for i in range(26 - common)]
    two = list(range(common)) + [200 + i for i in range(26 - common)]
    assert pack([one, two], [25, 25]).ids.shape[1] == rows


def test_a_large_tree_is_cut_below_its_root() -> None:
    header = list(range(300))
    branches = [[*header, 1000 + k, *range(50), 0] for k in range(3)]
    packed = pack(branches, [300] * 3)
    assert [len(b.queries) for b in packed.blocks] == [300, 51, 51, 51]
    assert [b.mask is None for b in packed.blocks] == [True, False, False, False]


@pytest.mark.parametrize(
    ("sequences", "starts", "message"),
    [
        ([[1, 2], [3, 4]], [1, 2], "sequence 1: scored from token 2 of 2"),
        ([[1, 2]], [0], "sequence 0: scored from token 0 of 2"),
        ([[1]], [1], "sequence 0"),
        ([[]], [0], "sequence 0"),
        ([[1, 2]], [1, 1], "zip"),
    ],
)
def test_nothing_to_score_is_refused(sequences: list[list[int]], starts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(sequences, starts)


def test_a_long_chain_of_prefixes_is_no_deep_recursion() -> None:
    chain = [list(range(n)) for n in range(2, 250)]
    assert pack(chain, [1] * len(chain), minimum_saving=1).ids.shape[1] >= 248


def test_a_chain_of_prefixes_is_laid_in_no_time_and_not_too_deep() -> None:
    words = [(7 * i) % 501 for i in range(1200)]
    sequences = [words[:i] for i in range(2, 1200)]
    laid = lay(sequences)
    assert [[laid.row[place] for place in places] for places in laid.places] == sequences
    deep = lay(sequences[:90], minimum_saving=1)
    assert len(deep.row) == 91
