"""Shared numbers equal plain ones: log-probabilities and gradients, for random trees and four families of networks."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.prefix_sharing import layout, products
from condition.prefix_sharing.attention import NAME
from condition.prefix_sharing.head import gather_logprobs
from condition.prefix_sharing.layout import pack
from condition.prefix_sharing.logprobs import logprobs, output_head, packed_logprobs, plain_logprobs
from condition.prefix_sharing.probe import shareable

Batch = tuple[list[list[int]], list[int]]


@st.composite
def trees(draw: st.DrawFn) -> Batch:
    """Sequences grown from each other: branches of any length, duplicates, prefixes of one another, strangers."""
    ids = st.integers(3, 511)
    sequences = [draw(st.lists(ids, min_size=2, max_size=30))]
    for _ in range(draw(st.integers(0, 6))):
        parent = draw(st.sampled_from(sequences))
        kept = parent[: draw(st.integers(0, len(parent)))]
        grown = kept + draw(st.lists(ids, max_size=12))
        sequences.append(grown if len(grown) >= 2 else [*grown, 5, 6])
    starts = [draw(st.integers(1, len(s) - 1)) for s in sequences]
    return sequences, starts


@cache
def network_of(tiny: Any, family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    network: PreTrainedModel = tiny(family, **changes).to(dtype)
    assert shareable(network)
    return network


def exact(packed: list[Tensor] | Tensor, plain: list[Tensor], tolerance: float) -> None:
    flat = packed if isinstance(packed, Tensor) else torch.cat(packed)
    torch.testing.assert_close(flat, torch.cat(plain), rtol=0, atol=tolerance)


def gradients(network: PreTrainedModel, values: Tensor) -> dict[str, Tensor]:
    """Of a sum with a weight for each value, so that no two can be swapped."""
    weights = torch.linspace(0.5, 1.5, len(values), dtype=values.dtype, device=values.device)
    names, parameters = zip(*[(n, p) for n, p in network.named_parameters() if p.requires_grad], strict=True)
    found = torch.autograd.grad((values * weights).sum(), parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def same_gradients(network: PreTrainedModel, shared: Tensor, plain: Tensor, relative: float) -> None:
    ours, theirs = gradients(network, shared), gradients(network, plain)
    largest = max(float(g.norm()) for g in theirs.values())
    for name, grad in theirs.items():
        # Gradients that are zero in exact arithmetic (a key's bias) are rounding only: measured against the largest.
        difference = float((ours[name] - grad).norm())
        assert difference <= relative * max(float(grad.norm()), 1e-3 * largest), name


@settings(max_examples=25)
@given(batch=trees(), minimum=st.sampled_from([1, layout.MINIMUM_SAVING, None]), limit=st.sampled_from([0, 10, 384]))
def test_logprobs_equal_the_plain_path(tiny: Any, family: str, batch: Batch, minimum: int | None, limit: int) -> None:
    network = network_of(tiny, family)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(layout, "DENSE_LIMIT", limit)
        exact(packed_logprobs(network, pack(*batch, minimum_saving=minimum)), plain_logprobs(network, *batch), 1e-5)


@settings(max_examples=6)
@given(batch=trees(), minimum=st.sampled_from([1, None]), limit=st.sampled_from([0, 384]))
def test_in_double_precision_they_are_the_same_number(
    tiny: Any, family: str, batch: Batch, minimum: int | None, limit: int
) -> None:
    network = network_of(tiny, family, torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "DENSE_LIMIT", limit)
        shared = packed_logprobs(network, pack(*batch, minimum_saving=minimum))
    plain = plain_logprobs(network, *batch)
    exact(shared, plain, 1e-10)
    # The log-probabilities of gradients that a rotary embedding computes in fp32 differ in its last digits.
    same_gradients(network, shared, torch.cat(plain), 1e-6)


HEADER = list(range(10, 70))
# A long header with branches of several lengths, one of them twice, a branch that forks again, and two strangers.
TREE: Batch = (
    [
        [*HEADER, 100, 101, 102],
        [*HEADER, 103],
        [*HEADER, 100, 101, 102],
        [*HEADER, *range(200, 230), 1, 2],
        [*HEADER, *range(200, 230), 3, 4, 5],
        [400, 401, 402, 403],
        [500, 501],
        HEADER[:20],
    ],
    [60, 60, 60, 61, 90, 2, 1, 19],
)


@pytest.mark.parametrize(
    ("limit", "largest"), [(0, 0), (0, products.LARGEST), (40, products.LARGEST), (384, 0), (384, products.LARGEST)]
)
@pytest.mark.parametrize("frozen_head", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_the_plain_path(
    tiny: Any,
    family: str,
    limit: int,
    largest: int,
    frozen_head: bool,
    checkpointing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "DENSE_LIMIT", limit)
    monkeypatch.setattr(products, "LARGEST", largest)
    network = tiny(family, tie_word_embeddings=False)
    assert shareable(network)
    output_head(network).requires_grad_(not frozen_head)
    if checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
        network.train()
        for module in network.modules():  # the same numbers twice: no dropout
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0
    shared = torch.cat(logprobs(network, *TREE))
    plain = torch.cat(plain_logprobs(network, *TREE))
    exact(shared, [plain], 1e-5)
    same_gradients(network, shared, plain, 1e-5)


@pytest.mark.parametrize("limit", [0, 384])
def test_the_tree_saves_work(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "DENSE_LIMIT", limit)
    packed = pack(*TREE)
    assert packed.saved == 4 * 60 + 30 + 19
    assert {block.mask is None for block in packed.blocks} == {True, False}


def test_the_public_call_splits_by_sequence_on_both_paths(tiny: Any, family: str) -> None:
    network = network_of(tiny, family)
    with torch.no_grad():
        shared, plain = (logprobs(network, *TREE, shared=shared) for shared in (True, False))
    lengths = [len(s) - start for s, start in zip(*TREE, strict=True)]
    assert [len(v) for v in shared] == [len(v) for v in plain] == lengths
    assert all(v.dtype == torch.float32 for v in shared)
    exact(shared, plain, 1e-5)


def test_the_plain_path_is_the_networks_own_forward_pass(tiny: Any, family: str) -> None:
    """One sequence at a time, no padding, log-softmax of all logits."""
    network = tiny(family)
    with torch.no_grad():
        plain = plain_logprobs(network, *TREE)
        for sequence, start, values in zip(*TREE, plain, strict=True):
            table = network(torch.tensor([sequence])).logits[0].log_softmax(-1)
            wanted = torch.stack([table[place - 1, sequence[place]] for place in range(start, len(sequence))])
            torch.testing.assert_close(values, wanted, rtol=0, atol=1e-5)


def test_an_order_of_sequences_does_not_change_their_numbers(tiny: Any) -> None:
    network = network_of(tiny, "llama")
    sequences, starts = TREE
    with torch.no_grad():
        forward = logprobs(network, sequences, starts)
        backward = logprobs(network, sequences[::-1], starts[::-1])
    exact(forward, backward[::-1], 1e-5)


def test_a_token_far_away_changes_nothing(tiny: Any) -> None:
    """A sequence's numbers do not depend on its neighbours in the pack."""
    network = network_of(tiny, "qwen2")
    sequences, starts = TREE
    with torch.no_grad():
        together = logprobs(network, sequences, starts)
        alone = [logprobs(network, [s], [start])[0] for s, start in zip(sequences, starts, strict=True)]
    exact(together, alone, 1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bf16_they_are_close(tiny: Any, family: str, autocast: bool) -> None:
    network = tiny(family)
    assert shareable(network)
    with torch.no_grad():
        wanted = torch.cat(plain_logprobs(network, *TREE))
        network = network if autocast else network.to(torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            shared, plain = torch.cat(logprobs(network, *TREE)), torch.cat(plain_logprobs(network, *TREE))
    assert shared.dtype == torch.float32
    assert float((shared - plain).abs().max()) < 0.05
    assert float((shared - wanted).abs().mean()) < 2 * float((plain - wanted).abs().mean()) + 1e-3


def test_in_bf16_gradients_point_the_same_way(tiny: Any) -> None:
    network = tiny("llama")
    assert shareable(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shared, plain = torch.cat(logprobs(network, *TREE)), torch.cat(plain_logprobs(network, *TREE))
    ours, theirs = gradients(network, shared), gradients(network, plain)
    for name, grad in theirs.items():
        assert float(torch.cosine_similarity(ours[name].flatten(), grad.flatten(), 0)) > 0.99, name


def test_no_head_is_an_error_that_the_probe_understands(tiny: Any) -> None:
    with pytest.raises(NotImplementedError, match="LlamaModel has no output head"):
        output_head(tiny("llama").base_model)


def test_the_networks_own_attention_is_never_given_a_pack(tiny: Any) -> None:
    """With another attention the pack's mask would mean something else: the verdict is asked again."""
    network = tiny("llama")
    assert shareable(network)
    assert network.config._attn_implementation == NAME
    network.set_attn_implementation("sdpa")
    assert shareable(network)
    with torch.no_grad():
        exact(logprobs(network, *TREE), plain_logprobs(network, *TREE), 1e-5)


def test_gathered_logprobs_are_those_of_log_softmax() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 50
    targets = torch.tensor([0, 6, 3, 3, 1])
    torch.testing.assert_close(gather_logprobs(logits, targets), logits.log_softmax(-1)[torch.arange(5), targets])


def test_a_network_that_was_not_asked_is_refused(tiny: Any) -> None:
    with pytest.raises(RuntimeError, match=r"ask probe\.shareable\(network\) first"):
        logprobs(tiny("llama"), [[3, 4, 5], [3, 4, 6]], [1, 1])
