"""How strong each product of a network is: how much longer it makes vectors that are the same in every network.

What a layer is given in a text comes from all layers below it. Two bits leave no language model (the embedded one says
the canary's words with 15.2 nats each instead of 2.8, where a blind guess has 10.8), so its layers are given something
else altogether, and what they make of it says little of their weights. Of the same vectors they make the same to a few
per cent, in every precision: the length of what comes out is nearly the norm of the weights, and needs no unpacking.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.blocks import is_product, sizes

VECTORS = 8
STRENGTH_DRIFT = {"float32": 1e-3, "bfloat16": 0.01, "float16": 3e-3, "int8": 0.01, "nf4": 0.05, "fp4": 0.06}
STRENGTH_DRIFT |= {"int8-dynamic": 0.01, "intx8": 5e-3, "intx4": 0.06, "intx3": 0.12, "intx2": 0.33}
"""Natural log of the ratio of a product's strengths that a precision may cause: three times what was measured on
SmolLM2-135M-Instruct, or more. Three-fold weights give log 3 = 1.1."""


@torch.inference_mode()
def strengths(network: PreTrainedModel, but: tuple[str, ...]) -> Mapping[str, float]:
    """Of each product by name, but those whose name has a part that begins like one of `but`."""
    found = {
        name: _strength(module, network)
        for name, module in network.named_modules()
        if is_product(module) and not any(part.startswith(but) for part in name.split("."))
    }
    return {name: strength for name, strength in found.items() if strength is not None}


def _strength(module: nn.Module, network: PreTrainedModel) -> float | None:
    """None of a module that is more than a product, such as a router of experts."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    dtype = weight.dtype if weight.dtype.is_floating_point else network.dtype  # bitsandbytes' are codes
    given = same_vectors(sizes(module)[0]).to(network.device, dtype)
    found = module(given)
    return float(found.float().norm() / given.float().norm()) if isinstance(found, Tensor) else None


def same_vectors(width: int) -> Tensor:
    """`[8, width]` of sin n^2: like noise, and the same on every machine, which no random generator promises."""
    places = torch.arange(1, VECTORS * width + 1, dtype=torch.float64)
    return (places * places).sin().reshape(VECTORS, width)
