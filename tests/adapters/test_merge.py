"""Quantized bases: what is merged into their numbers written out, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condition.adapters.adalora import AdaLoRA
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.merge import dequantized, merged, without_adapter
from condition.adapters.quantized import is_quantized
from condition.adapters.stack import Stack
from condition.errors import SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from tests.adapters.test_every_adapter import filled, fit
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
KINDS = {
    "nf4": Quantization(),
    "int8": Quantization(bits=8),
    "intx4": Quantization(bits=4, kind="intx"),
    "intx2": Quantization(bits=2, kind="intx"),
}


@pytest.fixture(params=KINDS)
def small(request: pytest.FixtureRequest, tiny_folder: Path) -> LocalModel:
    if "intx" in request.param:
        pytest.importorskip("torchao")
    return load(tiny_folder, quantization=KINDS[request.param])


@torch.no_grad()
def test_written_out_a_base_computes_the_same(small: LocalModel, tiny: Tiny) -> None:
    plain = dequantized(small.network)
    assert is_quantized(small.network)
    assert not is_quantized(plain)
    assert not is_quantized(tiny("llama"))
    for module in plain.modules():
        if isinstance(module, nn.Linear):
            assert (type(module), type(module.weight), module.weight.dtype) == (nn.Linear, nn.Parameter, torch.float32)
    tolerance = 0.02 if small.quantization == Quantization(bits=8) else 1e-4  # int8 rounds what goes through too
    torch.testing.assert_close(plain(IDS).logits, small.network(IDS).logits, rtol=0, atol=tolerance)


def test_a_bias_is_kept(tiny: Tiny, tmp_path: Path) -> None:
    network = tiny("qwen2")
    for name, parameter in network.named_parameters():
        if name.endswith(".bias"):
            nn.init.normal_(parameter)
    plain = {name: p.detach().clone() for name, p in network.named_parameters() if name.endswith(".bias")}
    Quantization(bits=8, kind="intx").apply(network)
    found = dict(dequantized(network).named_parameters())
    assert plain
    assert all(torch.equal(found[name], bias) for name, bias in plain.items())


@pytest.mark.parametrize(
    "adapter", [LoRA(rank=2), LoRA(rank=4, initialisation="pissa"), IA3(), AdaLoRA(rank=2, start=3)], ids=str
)
def test_exported_it_says_the_same(small: LocalModel, adapter: Any, tmp_path: Path) -> None:
    tuned = fit(small, adapter, max_steps=2)
    with pytest.raises(SettingsError, match=r"would be rounded away: use model\.export\(folder\)"):
        tuned.merge()
    drift = tuned.export(tmp_path / "out", tolerance=0.01)
    again = load(tmp_path / "out")
    assert again.quantization is None
    assert not is_quantized(again.network)
    assert drift.mean < (5e-3 if small.quantization == Quantization(bits=8) else 1e-4)


def test_what_is_no_change_of_weights_is_not_exported(small: LocalModel, tmp_path: Path) -> None:
    for adapter in (Bottleneck(size=2), Stack((LoRA(rank=2), Bottleneck(size=2)))):
        network = filled(adapter.attach(small.network))
        for what in (merged, without_adapter):
            with pytest.raises(SettingsError, match=f"{type(adapter).__name__} is no change of the base's weights"):
                what(network)
    with pytest.raises(SettingsError, match="there is no adapter to merge"):
        merged(small.network)


@pytest.mark.parametrize("adapter", [FullFineTuning(), LastLayers(1)], ids=lambda a: a.kind)
def test_weights_that_stand_for_others_are_not_tuned(small: LocalModel, adapter: Any) -> None:
    with pytest.raises(SettingsError, match=r"can't train quantized weights: they have no gradient"):
        fit(small, adapter, max_steps=1)


def test_magnitudes_where_pefts_hold(small: LocalModel, tmp_path: Path) -> None:
    adapter = LoRA(rank=4, weight_decomposed=True)
    if small.quantization == Quantization(bits=8):
        with pytest.raises(SettingsError, match="can't stand on bitsandbytes' int8 weights"):
            fit(small, adapter, max_steps=1)
        return
    tuned = fit(small, adapter, max_steps=2)
    assert tuned.export(tmp_path / "out").mean < 1e-4
