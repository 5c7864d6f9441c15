"""One mask over a packed tree, and the kernel that takes it, against the blocks and the plain path."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask
from transformers import PreTrainedModel

from condition.errors import SharingWarning
from condition.prefix_sharing import flex, layout
from condition.prefix_sharing.attention import Plan, plan, shared_attention
from condition.prefix_sharing.layout import Packed, pack
from condition.prefix_sharing.logprobs import logprobs, packed_logprobs, plain_logprobs
from condition.prefix_sharing.past import remember
from condition.prefix_sharing.probe import shareable
from condition.training.forgetting import forgetful
from tests.conftest import Tiny
from tests.prefix_sharing.test_attention import MODULE
from tests.prefix_sharing.test_logprobs import same_gradients

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
tokens = st.lists(st.integers(0, 2), min_size=2, max_size=12)
batches = st.lists(tokens, min_size=1, max_size=6)
# torch's compiler warns of much; what we say ourselves counts.
pytestmark = pytest.mark.filterwarnings("ignore", "error::condition.errors.SharingWarning")
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="the compiled kernel needs a CUDA device")


def seen_by_blocks(packed: Packed) -> Tensor:
    """`[tokens, tokens]`"""
    seen = torch.zeros(packed.ids.shape[1], packed.ids.shape[1], dtype=torch.bool)
    for block in packed.blocks:
        own = torch.ones(len(block.queries), len(block.keys)).tril().bool() if block.mask is None else block.mask
        seen[torch.tensor(block.queries)[:, None], torch.tensor(block.keys)] = own
    return seen


def seen_by_mask(mask: Any) -> Tensor:
    """`[queries, keys]`, padding and all."""
    queries, keys = mask.shape[-2:]
    seen: Tensor = mask.mask_mod(0, 0, torch.arange(queries)[:, None], torch.arange(keys)[None])
    return seen


@given(
    sequences=batches,
    minimum=st.sampled_from([1, 4, None]),
    limit=st.sampled_from([0, 4, 384]),
    past=st.sampled_from([0, 3, 128]),
)
def test_the_ends_say_what_the_blocks_say(
    sequences: list[list[int]], minimum: int | None, limit: int, past: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "DENSE_LIMIT", limit)
        packed = pack(sequences, [1] * len(sequences), minimum_saving=minimum)
    assert packed.ends is not None
    size = packed.ids.shape[1]
    seen = seen_by_mask(flex.tree_mask(packed.ends, past, CPU))
    assert torch.equal(seen[:size, past : past + size], seen_by_blocks(packed))
    assert seen[:, :past].all()
    assert not seen[:size, past + size :].any()
    assert seen.any(1).all(), "a query that sees nothing"


@settings(max_examples=8)
@given(sequences=batches, times=st.sampled_from([1, 30, 64]), past=st.sampled_from([0, 70, 256]))
def test_the_tiles_are_those_of_the_dense_mask(sequences: list[list[int]], times: int, past: int) -> None:
    long = [[token for token in sequence for _ in range(times)] for sequence in sequences]
    packed = pack(long, [1] * len(long), minimum_saving=1)
    assert packed.ends is not None
    mask = flex.tree_mask(packed.ends, past, CPU)
    wanted = create_block_mask(mask.mask_mod, 1, 1, *mask.shape[-2:], device="cpu")
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices"):
        assert torch.equal(getattr(mask, name), getattr(wanted, name)), name


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The kernel wherever it can run; gives what it was called with."""
    calls: list[Any] = []
    kernel = flex._attend

    def counted(*given: Any) -> Tensor:
        calls.append(given)
        return kernel(*given)

    monkeypatch.setattr(flex, "FORCED", True)
    monkeypatch.setattr(flex, "_attend", counted)
    # On the CPU torch refuses gradients that its own formula knows.
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *heads: None)
    yield calls
    torch._dynamo.reset()


def tree(branch: int = 9) -> tuple[list[list[int]], list[int]]:
    """A header with branches, one of which forks again, and a stranger."""
    numbers = random.Random(0)
    header, second, *ends = (numbers.choices(range(3, 500), k=n) for n in (40, 30, *[branch] * 5))
    sequences = [header + ends[0], header + second + ends[1], header + second + ends[2], header + ends[3], ends[4]]
    return sequences, [40, 70, 70, 41, 2]


def scored(network: PreTrainedModel) -> None:
    packed = pack(*tree())
    assert len(packed.blocks) > 1
    shared, plain = packed_logprobs(network, packed), torch.cat(plain_logprobs(network, *tree()))
    torch.testing.assert_close(shared, plain, rtol=0, atol=1e-4)
    same_gradients(network, shared, plain, 1e-4)


def test_equals_the_plain_path_with_gradients(tiny: Tiny, forced: list[Any]) -> None:
    network = tiny("llama")  # four heads on two shared ones
    assert shareable(network)
    forced.clear()
    scored(network)
    assert len(forced) == 2  # layers


def test_equals_the_plain_path_behind_what_is_kept(tiny: Tiny, forced: list[Any]) -> None:
    network = tiny("llama")
    assert shareable(network)
    sequences, starts = [tree(150)[0][i] for i in (1, 2)], [70, 70]
    with torch.inference_mode():
        kept = remember(network, sequences[0][:33])
        forced.clear()
        shared, plain = logprobs(network, sequences, starts, kept=kept), plain_logprobs(network, sequences, starts)
    torch.testing.assert_close(torch.cat(shared), torch.cat(plain), rtol=0, atol=1e-4)
    assert [(q.shape[2], k.shape[2]) for q, k, *_ in forced] == [(384, 384)] * 2  # 335 tokens, and 33 before them


def test_what_was_forgotten_is_not_seen(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "FORCED", True)
    packed = pack(*tree())
    assert forgetful(packed, 0.5).ends is None
    network = tiny("llama")
    monkeypatch.setattr(flex, "FORCED", None)
    assert shareable(network)
    monkeypatch.setattr(flex, "FORCED", True)
    with torch.no_grad():
        blocks = packed_logprobs(network, replace(packed, ends=None))
    torch.testing.assert_close(blocks, torch.cat(plain_logprobs(network, *tree())), rtol=0, atol=1e-4)


def test_nothing_is_built_that_is_not_used(forced: list[Any]) -> None:
    packed = pack(*tree())
    size = packed.ids.shape[1]
    x = torch.randn(1, 4, size, 16)
    found = plan(packed.blocks, size, None, packed.ends)
    with torch.no_grad():
        one, _ = shared_attention(MODULE, x, x, x, None, shared=found)
    assert "mask" in vars(found)
    assert "grouped" not in vars(found)
    other = plan(packed.blocks, size)
    two, _ = shared_attention(MODULE, x, x, x, None, shared=other)
    assert "mask" not in vars(other)
    torch.testing.assert_close(one, two)
    dropped = plan(packed.blocks, size, None, packed.ends)
    shared_attention(MODULE, x, x, x, None, shared=dropped, dropout=0.5)
    assert "mask" not in vars(dropped)


def test_another_scale(forced: list[Any]) -> None:
    packed = pack(*tree())
    size = packed.ids.shape[1]
    x = torch.randn(1, 4, size, 16)
    with torch.no_grad():
        one, two = (
            shared_attention(MODULE, x, x, x, None, shared=plan(packed.blocks, size, None, ends), scaling=0.7)[0]
            for ends in (packed.ends, None)
        )
    torch.testing.assert_close(one, two)
    assert forced


def test_a_process_compiles_when_it_has_read_enough_of_long_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_read", 0)
    monkeypatch.setattr(flex, "SHORTEST", 100)
    monkeypatch.setattr(flex, "WORTH_COMPILING", 250)
    branches = [[*range(90), n, 0] for n in range(300, 310)]
    packed = pack(branches, [90] * 10)

    def due(*, past: int = 0, packed: Packed = packed, tokens: int = 100) -> bool:
        before = (torch.zeros(1, 1, past, 1),) * 2 if past else None
        return plan(packed.blocks, tokens, before, packed.ends).to(CUDA).due

    assert not due(tokens=99)
    assert [due() for _ in range(4)] == [False, False, True, True]
    assert not due(tokens=99)
    assert due(tokens=60, past=40)
    assert not due(packed=replace(packed, ends=None))
    alone = pack([[*range(120)]], [1])  # a plain causal row has a kernel of its own
    assert not due(packed=alone)
    assert due(packed=alone, past=1)
    assert not plan(packed.blocks, 100, None, packed.ends).due  # on the CPU


@pytest.mark.parametrize(("word", "expected"), [(None, False), (True, True), (False, False)])
def test_the_cpu_takes_blocks_unless_told(word: bool | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "FORCED", word)
    x = torch.zeros(1, 2, 3, 16)
    assert flex.flex_pays(x, x, x, 0.0, True) is expected
    assert not flex.flex_pays(x, x, x, 0.1, True)


def test_where_it_does_not_run_blocks_are_taken_and_the_reason_told() -> None:
    flex._sound.cache_clear()
    with pytest.warns(SharingWarning, match="flex_attention is off for packed trees: .* backward"):
        assert not flex._sound(CPU, torch.float32, (4, 2), (16, 16), True, False)
    flex._sound.cache_clear()


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "AGREES", -1.0)
    with pytest.warns(SharingWarning, match="differs from the plain kernel by"):
        assert not flex._sound(CPU, torch.float32, (4, 2), (16, 16), False, False)
    monkeypatch.setattr(flex, "AGREES", 1e-5)
    flex._sound.cache_clear()
    assert flex._sound(CPU, torch.float32, (4, 2), (16, 16), False, False)
    flex._sound.cache_clear()
    torch._dynamo.reset()


@on_cuda
@pytest.mark.parametrize("heads", [(4, 4), (9, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.01), (torch.float32, 1e-3)])
@pytest.mark.parametrize("learns", [False, True])
def test_the_compiled_kernel_agrees(heads: tuple[int, int], dtype: torch.dtype, tolerance: float, learns: bool) -> None:
    assert flex.trial(CUDA, dtype, heads, (64, 64), learns) < tolerance


@on_cuda
@pytest.mark.parametrize("checkpointing", [False, True])
def test_on_a_gpu_it_equals_the_plain_path(tiny: Tiny, checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny("llama").to(CUDA)
    assert shareable(network)
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    monkeypatch.setattr(flex, "FORCED", True)
    scored(network)
    assert flex._sound.cache_info().currsize


@on_cuda
def test_rows_of_all_lengths_share_one_compiled_kernel() -> None:
    flex.trial(CUDA, torch.bfloat16, (4, 2), (32, 32), True)
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    for size, past in ((200, 0), (1024, 0), (512, 512), (900, 77), (2048, 1)):
        q, k, v = (
            torch.randn(1, heads, length, 32, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
            for heads, length in ((4, size), (2, past + size), (2, past + size))
        )
        mask = flex.tree_mask(torch.full((size,), size), past, CUDA)
        flex.tree_attention(q, k, v, mask, None).sum().backward()
    assert counters["unique_graphs"] == before


def test_a_plan_says_where_it_lies() -> None:
    packed = pack(*tree())
    found = plan(packed.blocks, packed.ids.shape[1], None, packed.ends)
    assert isinstance(found, Plan)
    assert found.device == CPU
    assert found.to(CUDA).device == CUDA
