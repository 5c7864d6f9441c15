"""Branches that attend to their header once against a dense mask over the row, and against the plain path."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condition.prefix_sharing import attention, header, layout
from condition.prefix_sharing.attention import plan, shared_attention
from condition.prefix_sharing.groups import grouped
from condition.prefix_sharing.layout import pack
from condition.prefix_sharing.logprobs import logprobs, plain_logprobs
from condition.prefix_sharing.past import remember
from condition.prefix_sharing.probe import shareable
from tests.conftest import Tiny
from tests.prefix_sharing.test_attention import MODULE, dense


@st.composite
def branches(draw: st.DrawFn) -> list[list[int]]:
    """A header and what follows it, in two levels, and now and then a stranger."""
    ids = st.integers(0, 5)
    whole = draw(st.lists(ids, min_size=2, max_size=12))
    middles = [whole + draw(st.lists(ids, min_size=1, max_size=4)) for _ in range(draw(st.integers(1, 3)))]
    found = [draw(st.sampled_from(middles)) + draw(st.lists(ids, min_size=1, max_size=6)) for _ in range(6)]
    return [*found, draw(st.lists(ids, min_size=2, max_size=6))]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Small headers count too; gives the calls that were divided."""
    calls: list[Any] = []

    def noted(*given: Any) -> Any:
        calls.append(given)
        return header.divided_attention(*given)

    monkeypatch.setattr(header, "WORTH_DIVIDING", 1)
    monkeypatch.setattr(attention, "divided_attention", noted)
    return calls


@pytest.mark.parametrize("scaling", [0.3, None])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@settings(max_examples=40)
@given(sequences=branches(), limit=st.sampled_from([0, 4]))
def test_equals_a_dense_mask(scaling: float | None, key_heads: int, sequences: list[list[int]], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "DENSE_LIMIT", limit)
        patch.setattr(header, "WORTH_DIVIDING", 1)
        packed = pack(sequences, [1] * len(sequences), minimum_saving=1)
        size = packed.ids.shape[1]
        numbers = torch.Generator().manual_seed(0)
        inputs = [
            torch.randn(1, heads, size, 4, generator=numbers, dtype=torch.float64)
            for heads in (4, key_heads, key_heads)
        ]
        with torch.no_grad():  # looks for the header only now
            output, _ = shared_attention(MODULE, *inputs, None, shared=plan(packed.blocks, size), scaling=scaling)
    wanted = dense(packed.blocks, *inputs, scaling=0.5 if scaling is None else scaling)
    torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [False, True], ids=["whole", "behind what is kept"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10), (torch.bfloat16, 0.1)])
def test_equals_the_plain_path(tiny: Tiny, always: list[Any], kept: bool, dtype: torch.dtype, tolerance: float) -> None:
    numbers = random.Random(0)
    begin = numbers.choices(range(3, 500), k=300)  # more than a dense block in all
    sequences = [begin + numbers.choices(range(3, 500), k=numbers.randint(20, 60)) for _ in range(9)]
    starts = [len(s) - 8 for s in sequences]
    network = tiny("llama", max_position_embeddings=1024).to(dtype)
    assert shareable(network)
    always.clear()  # the probe's
    with torch.inference_mode():
        past = remember(network, begin[:200]) if kept else None
        found = logprobs(network, sequences, starts, kept=past)
        expected = plain_logprobs(network, sequences, starts)
    assert always
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def test_a_gradient_does_not_go_through_it(tiny: Tiny, always: list[Any]) -> None:
    numbers = random.Random(0)
    begin = numbers.choices(range(3, 500), k=300)
    sequences = [begin + numbers.choices(range(3, 500), k=80) for _ in range(5)]
    network = tiny("llama", max_position_embeddings=1024)
    assert shareable(network)
    always.clear()  # the probe's
    torch.cat(logprobs(network, sequences, [310] * 5)).sum().backward()
    assert not always
    assert all(p.grad is not None for p in network.parameters())


def test_a_short_header_is_not_worth_it() -> None:
    sequences = [[1] * 100 + [i] * 400 for i in range(2, 6)]
    few = grouped(pack(sequences, [1] * 4).blocks, 1700)
    assert all(group.divided is None for group in few.groups)
    more = [[1] * 600 + [i] * 400 for i in range(2, 6)]
    assert any(group.divided is not None for group in grouped(pack(more, [1] * 4).blocks, 2200).groups)
