"""The network's dropout is off, the adapter's is not, and both are as they were in the end."""

from __future__ import annotations

from torch import nn

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
