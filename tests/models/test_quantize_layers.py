"""Which layers are quantized, to which numbers, and what is left of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condition.errors import SettingsError
from condition.models.load import load
from condition.models.quantize import Quantization, group_of
from tests.conftest import Tiny

BNB = {"nf4": Quantization(), "nf4 plain": Quantization(double=False), "fp4": Quantization(kind="fp4")}
INTX = [Quantization(bits=bits, kind="intx") for bits in (8, 4, 3, 2)]


def linear(network: Any) -> dict[str, nn.Linear]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("name", BNB)
def test_four_bits_are_of_the_kind_that_was_asked_for(tiny_folder: Path, name: str) -> None:
    asked = BNB[name]
    layers = linear(load(tiny_folder, quantization=asked).network)
    head = layers.pop("lm_head")
    assert type(head) is nn.Linear
    assert head.weight.dtype == torch.float32
    for layer in layers.values():
        state: Any = layer.weight.quant_state
        assert (state.quant_type, state.nested) == (asked.kind, asked.double)
        assert layer.compute_dtype == torch.float32
        assert state.blocksize == 64


def test_eight_bits(tiny_folder: Path) -> None:
    layers = linear(load(tiny_folder, quantization=Quantization(bits=8)).network)
    assert type(layers.pop("lm_head")) is nn.Linear
    assert {layer.weight.dtype for layer in layers.values()} == {torch.int8}


@pytest.mark.parametrize("quantization", INTX, ids=lambda q: q.name)
def test_whole_numbers_by_hand(tiny_folder: Path, quantization: Quantization) -> None:
    """32 weights share a scale, and are whole multiples of it: -2^(bits-1) to 2^(bits-1) - 1."""
    pytest.importorskip("torchao")
    plain, layers = linear(load(tiny_folder).network), linear(load(tiny_folder, quantization=quantization).network)
    assert type(layers.pop("lm_head").weight) is nn.Parameter
    for name, layer in layers.items():
        held: Any = layer.weight
        groups = held.dequantize().view(-1, 32)
        scales = held.scale.flatten()[:, None]
        whole = groups / scales
        torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-3)
        half = 2 ** (quantization.bits - 1)
        assert float(whole.min()) >= -half - 1e-3
        assert float(whole.max()) <= half - 1 + 1e-3
        apart = (groups - plain[name].weight.detach().view(-1, 32)).abs() / scales
        inside = whole.round() < half - 1  # the largest may be cut off
        assert float(apart[inside].max()) <= 0.5 + 1e-3


def test_the_fewer_bits_the_further_from_the_weights(tiny_folder: Path) -> None:
    pytest.importorskip("torchao")
    plain = linear(load(tiny_folder).network)["model.layers.0.mlp.up_proj"].weight.detach()
    apart = []
    for quantization in INTX:
        held: Any = linear(load(tiny_folder, quantization=quantization).network)["model.layers.0.mlp.up_proj"].weight
        apart.append(float((held.dequantize() - plain).norm() / plain.norm()))
    assert apart == sorted(apart)
    assert apart[0] < 0.01
    assert apart[-1] > 0.2


def test_a_width_that_32_does_not_divide_has_a_scale_a_row(tiny: Tiny) -> None:
    pytest.importorskip("torchao")
    assert [group_of(nn.Linear(width, 4)) for width in (64, 32, 48, 33)] == [32, 32, 0, 0]
    network = tiny("llama", intermediate_size=80)
    Quantization(bits=8, kind="intx").apply(network)
    down: Any = linear(network)["model.layers.0.mlp.down_proj"].weight
    assert down.scale.numel() == 64
    up: Any = linear(network)["model.layers.0.mlp.up_proj"].weight
    assert up.scale.numel() == 80 * 2


def test_a_network_of_another_kind_of_product_is_refused(tiny: Tiny) -> None:
    pytest.importorskip("torchao")
    with pytest.raises(SettingsError, match=r"GPT2LMHeadModel has no linear layers that torchao knows"):
        Quantization(bits=4, kind="intx").apply(tiny("gpt2"))


def test_products_are_in_bf16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("condition.models.quantize.has_bf16", lambda device, has=has: has)
        assert Quantization().torch_dtype(cuda) == dtype
        assert Quantization().torch_dtype(cpu) == torch.float32
        assert Quantization(compute_dtype="float16").torch_dtype(cuda) == torch.float16


def test_what_can_be_trained_and_what_can_be_saved() -> None:
    every = [*BNB.values(), Quantization(bits=8), *INTX, Quantization(kind="int8-dynamic")]
    assert [q.name for q in every if not q.trains] == ["int8-dynamic"]
    assert [q.name for q in every if not q.saves] == ["intx8", "intx4", "intx3", "intx2", "int8-dynamic"]
