"""What a token does not see of the past, and what it always sees."""

from __future__ import annotations

import pytest
import torch

from condition.prefix_sharing.layout import pack
from condition.prefix_sharing.logprobs import packed_logprobs
from condition.prefix_sharing.probe import shareable
from condition.training.forgetting import forgetful
from tests.conftest import Tiny

COMMON = tuple(range(20, 60))
SEQUENCES = [(*COMMON, *range(70, 110)), (*COMMON, *range(200, 240)), tuple(range(300, 400))]
PACKED = pack(SEQUENCES, [40, 40, 50])


def seen(mask: torch.Tensor | None, queries: int) -> torch.Tensor:
    return torch.ones(queries, queries, dtype=torch.bool).tril() if mask is None else mask


def test_a_share_of_the_past_goes_and_nothing_comes() -> None:
    assert {block.mask is None for block in PACKED.blocks} == {True, False}  # plain rows and a tree
    assert PACKED.ends is not None
    assert forgetful(PACKED, 0.2).ends is None  # by which a GPU would read all of the past, whatever the masks say
    torch.manual_seed(0)
    shares = []
    for _ in range(40):
        for block, less in zip(PACKED.blocks, forgetful(PACKED, 0.2).blocks, strict=True):
            assert less.mask is not None
            before = seen(block.mask, len(block.queries))
            assert not (less.mask & ~before).any()
            own = torch.tensor(block.keys) == torch.tensor(block.queries)[:, None]
            first = PACKED.positions[0][block.keys] == 0
            assert less.mask[own].all()
            assert less.mask[:, first].all()
            past = before & ~own & ~first
            shares.append(1 - float(less.mask[past].double().mean()))
    assert max(shares) < 0.23
    assert min(shares) < 0.03
    assert sum(shares) / len(shares) == pytest.approx(0.1, abs=0.03)


def test_nothing_forgotten_is_the_network_itself(tiny: Tiny) -> None:
    network = tiny("llama")
    assert shareable(network)
    torch.manual_seed(0)
    with torch.no_grad():
        whole, same, less = (
            packed_logprobs(network, p) for p in (PACKED, forgetful(PACKED, 0), forgetful(PACKED, 0.9))
        )
    torch.testing.assert_close(whole, same, atol=1e-5, rtol=1e-5)
    assert float((whole - less).abs().max()) > 1e-3
