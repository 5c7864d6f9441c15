"""While it learns a network computes with rounded weights: those of a base that is loaded in as many bits."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn

from condition.adapters.attach import trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning
from condition.adapters.lora import LoRA
from condition.models.quantize import Quantization
from condition.training.rounding import rounded
from tests.conftest import Tiny

pytest.importorskip("torchao")

IDS = torch.arange(3, 40)[None]
WIDE = {"intermediate_size": 80}
"""Of two layers a row is no multiple of 32, so that they have another group."""


def rounding(network: Any) -> set[str]:
    return {name for name, module in network.named_modules() if "Fake" in type(module).__name__ and "." in name}


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_it_computes_as_a_base_of_so_many_bits(tiny: Tiny, bits: Literal[8, 4, 3, 2]) -> None:
    network, loaded = FullFineTuning().attach(tiny("llama", **WIDE)), tiny("llama", **WIDE)
    Quantization(bits=bits, kind="intx").apply(loaded)
    plain = network(IDS).logits.detach()
    with rounded(network, bits):
        inside = network(IDS).logits.detach()
    torch.testing.assert_close(inside, loaded(IDS).logits.detach(), rtol=0, atol=2e-2 if bits == 8 else 5e-2)
    apart = float((inside - plain).abs().max())
    assert apart > (1e-4 if bits == 8 else 1e-2)
    assert float((inside - loaded(IDS).logits.detach()).abs().max()) < 0.5 * apart
    assert torch.equal(network(IDS).logits.detach(), plain)


def test_the_head_and_what_an_adapter_has_put_in_stay_whole(tiny: Tiny) -> None:
    network = LoRA(rank=2).attach(Bottleneck(size=4).attach(tiny("llama")))
    linear = {name for name, module in network.named_modules() if type(module) is nn.Linear}
    own = {name for name in linear if "learned_bottleneck" in name or "lora_" in name}
    with rounded(network, 2):
        left = {name for name, module in network.named_modules() if type(module) is nn.Linear}
    assert own
    assert left == {*own, "lm_head"}
    assert {name for name, module in network.named_modules() if type(module) is nn.Linear} == linear


def test_gradients_go_to_the_whole_weights(tiny: Tiny) -> None:
    """As they are at the rounded ones: what rounding does has no slope. Bengio et al. 2013, arXiv 1308.3432."""
    network = FullFineTuning().attach(tiny("llama", **WIDE))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    with rounded(network, 4):
        network(input_ids=IDS, labels=IDS).loss.backward()
    found = {name: p.grad.clone() for name, p in trainable(network).items()}
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    loaded, at = tiny("llama", **WIDE), FullFineTuning().attach(tiny("llama", **WIDE))
    Quantization(bits=4, kind="intx").apply(loaded)
    for name, parameter in at.named_parameters():
        held: Any = loaded.get_parameter(name)
        parameter.data.copy_(held.dequantize() if hasattr(held, "qdata") else held)
    at(input_ids=IDS, labels=IDS).loss.backward()
    for name, parameter in at.named_parameters():
        cosine = nn.functional.cosine_similarity(found[name].flatten(), parameter.grad.flatten(), dim=0)
        assert float(cosine) > 0.97, name


def test_without_bits_nothing_happens(tiny: Tiny) -> None:
    network = tiny("llama")
    with rounded(network, None):
        assert not rounding(network)
