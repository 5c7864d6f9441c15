"""The network's dropout is off, the adapter's is not, and both are as they were in the end."""

from __future__ import annotations

import torch
from torch import nn

from condition.adapters.attach import LEARNED
from condition.adapters.lora import LoRA
from condition.training.dropout import without_dropout
from tests.conftest import Tiny


def shares(network: nn.Module) -> dict[str, float]:
    return {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}


def test_only_the_network_s_own(tiny: Tiny) -> None:
    network = LoRA(rank=2, dropout=0.3).attach(tiny("gpt2"))
    before = shares(network)
    assert {0.1, 0.3} <= set(before.values())
    with without_dropout(network):
        assert {share for name, share in shares(network).items() if "lora_" in name} == {0.3}
        assert {share for name, share in shares(network).items() if "lora_" not in name} == {0.0}
    assert shares(network) == before


def test_what_is_dropped_by_a_function_too(tiny: Tiny) -> None:
    """Attention has its share as a number; an adapter of ours keeps its own."""
    network = tiny("llama", attention_dropout=0.5)
    network.add_module(f"{LEARNED}gate", nn.Sequential(nn.Dropout(0.2)))
    ids = torch.arange(3, 43)[None]
    with torch.no_grad():
        expected = network(input_ids=ids).logits
        network.train()
        assert not torch.allclose(network(input_ids=ids).logits, expected, atol=1e-3)
        with without_dropout(network):
            torch.testing.assert_close(network(input_ids=ids).logits, expected)
            assert list(shares(network).values()) == [0.2]
        assert not torch.allclose(network(input_ids=ids).logits, expected, atol=1e-3)
