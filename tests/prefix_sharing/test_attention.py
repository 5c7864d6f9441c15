"""The packed attention against a dense one over the whole row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from condition.prefix_sharing import layout, products
from condition.prefix_sharing.attention import NAME, plan, shared_attention
from condition.prefix_sharing.groups import grouped
from condition.prefix_sharing.layout import Block, pack

tokens = st.lists(st.integers(0, 2), min_size=2, max_size=12)
batches = st.lists(tokens, min_size=1, max_size=6)
MODULE: Any = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)


def dense(blocks: list[Block], q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """`softmax(q k^T) v` with one mask over the row. `[1, heads, tokens, size]` to `[1, tokens, heads, size]`."""
    size = q.shape[2]
    visible = torch.zeros(size, size, dtype=torch.bool)
    for block in blocks:
        mask = torch.ones(len(block.queries), len(block.keys)).tril().bool() if block.mask is None else block.mask
        for i, query in enumerate(block.queries):
            visible[query, torch.tensor(block.keys)[mask[i]]] = True
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2) * scaling).masked_fill(~visible, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("largest", [0, products.LARGEST], ids=["fused", "products"])
@pytest.mark.parametrize("scaling", [0.3, None])
@settings(max_examples=25)
@given(
    sequences=batches,
    minimum=st.sampled_from([1, 4, None]),
    limit=st.sampled_from([0, 4, 384]),
    key_heads=st.sampled_from([1, 2, 4]),
)
def test_equals_a_dense_mask_forward_and_backward(
    largest: int, scaling: float | None, sequences: list[list[int]], minimum: int | None, limit: int, key_heads: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "DENSE_LIMIT", limit)
        packed = pack(sequences, [1] * len(sequences), minimum_saving=minimum)
    size = packed.ids.shape[1]
    numbers = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, heads, size, 4, generator=numbers, dtype=torch.float64, requires_grad=True)
        for heads in (4, key_heads, key_heads)
    ]
    weights = torch.randn(1, size, 4, 4, generator=numbers, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "LARGEST", largest)
        output, none = shared_attention(MODULE, *inputs, None, shared=plan(packed.blocks, size), scaling=scaling)
    assert none is None
    wanted = dense(packed.blocks, *inputs, scaling=0.5 if scaling is None else scaling)  # heads of 4: 4 ** -0.5
    torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)
    grads = torch.autograd.grad((output * weights).sum(), inputs)
    expected = torch.autograd.grad((wanted * weights).sum(), inputs)
    torch.testing.assert_close(grads, expected, rtol=0, atol=1e-12)


@given(batches, st.sampled_from([1, None]))
def test_groups_hold_every_token_once_and_little_padding(sequences: list[list[int]], minimum: int | None) -> None:
    packed = pack(sequences, [1] * len(sequences), minimum_saving=minimum)
    size = packed.ids.shape[1]
    found = grouped(packed.blocks, size)
    queries = torch.cat([g.queries for g in found.groups])
    assert queries[found.order].tolist() == list(range(size))
    own = sum(len(b.queries) * len(b.keys) for b in packed.blocks)
    assert sum(len(g.queries) // len(g.blocks) * len(g.keys) for g in found.groups) <= 2 * own


def test_without_a_plan_it_is_the_networks_own_attention() -> None:
    q = torch.randn(1, 4, 5, 4)
    k = v = torch.randn(1, 2, 5, 4)
    output, _ = shared_attention(MODULE, q, k, v, None, scaling=0.5)
    wanted = dense([Block(list(range(5)), list(range(5)), None)], q, k, v, 0.5)
    torch.testing.assert_close(output, wanted)


@pytest.mark.parametrize("name", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_what_blocks_do_not_know_is_refused(name: str) -> None:
    x = torch.randn(1, 4, 3, 4)
    shared = plan(pack([[1, 2, 3, 4]], [1]).blocks, 3)
    with pytest.raises(NotImplementedError, match=name):
        shared_attention(MODULE, x, x, x, None, shared=shared, **{name: 4})
    shared_attention(MODULE, x, x, x, None, shared=shared, **{name: None})


def test_it_is_registered_with_transformers(tiny: Any) -> None:
    network = tiny("llama")
    ids = torch.arange(3, 9)[None]
    before = network(ids).logits
    network.set_attn_implementation(NAME)
    torch.testing.assert_close(network(ids).logits, before)
    padded = torch.tensor([[1, 1, 1, 1, 0, 0]])
    network.set_attn_implementation("sdpa")
    before = network(ids, attention_mask=padded).logits[:, :4]
    network.set_attn_implementation(NAME)
    torch.testing.assert_close(network(ids, attention_mask=padded).logits[:, :4], before)


def test_the_scale_is_the_networks_own_without_a_plan() -> None:
    q, k, v = torch.randn(3, 1, 4, 5, 4)
    output, _ = shared_attention(MODULE, q, k, v, None, scaling=0.1)
    torch.testing.assert_close(output, dense([Block(list(range(5)), list(range(5)), None)], q, k, v, 0.1))


def test_dropout_drops() -> None:
    q, k, v = torch.ones(3, 1, 4, 6, 4)
    found = plan(pack([[1, 2, 3, 4, 5, 6, 7]], [1]).blocks, 6)
    torch.manual_seed(0)
    output, _ = shared_attention(MODULE, q, k, v, None, shared=found, dropout=0.5)
    assert not torch.allclose(output, torch.ones_like(output))
