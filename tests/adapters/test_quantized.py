"""Scales are found wherever bitsandbytes keeps them at the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.quantized import named_scales, scales, settle
from condition.models.load import load
from condition.models.quantize import Quantization


@pytest.mark.parametrize("quantization", [Quantization(), Quantization(double=False), Quantization(bits=8)])
def test_scales_are_found_before_a_layer_runs_and_behind_it(tiny_folder: Path, quantization: Quantization) -> None:
    network: Any = load(tiny_folder, quantization=quantization).network
    layer = network.model.layers[0].mlp.up_proj
    before = dict(named_scales(layer.weight, layer))
    scale = before[".absmax" if quantization.bits == 4 else " scales"]
    assert any(found is scale for found in scales(layer.weight))
    settle(network)
    assert dict(named_scales(layer.weight, layer)).keys() == before.keys()
    assert any(found is scale for found in scales(layer))


def test_a_plain_layer_has_none() -> None:
    layer = torch.nn.Linear(2, 2)
    assert not [*scales(layer), *scales(layer.weight), *named_scales(layer.weight, layer)]
