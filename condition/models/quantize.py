"""Weights in 8 or 4 bits, by bitsandbytes, on the GPU and on the CPU. Dettmers et al. 2023, arXiv 2305.14314.

Layers stay frozen and keep their bits; adapters beside them are trained in fp32. No layer is upcast and no
preparation step is needed: gradients reach the adapters through the quantized products.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import model_validator
from torch import nn
from transformers import BitsAndBytesConfig

from condition.errors import SettingsError
from condition.models.device import has_bf16
from condition.types import Options


class Quantization(Options):
    """How a base's linear layers are stored."""

    bits: Literal[4, 8] = 4
    kind: Literal["nf4", "fp4", "int8"] = "nf4"
    """The 4-bit code; with 8 bits it is int8."""
    double: bool = True
    """Quantize the scales too: 0.4 bits a weight less (4 bits only)."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What 4-bit weights are unpacked to for a product."""

    @model_validator(mode="before")
    @classmethod
    def _eight_bits_are_int8(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("bits", 4) == 8 and "kind" not in values:
            return {**values, "kind": "int8"}
        return values

    @model_validator(mode="after")
    def _bits_fit_kind(self) -> Quantization:
        if (self.bits == 8) != (self.kind == "int8"):
            raise ValueError(
                f"{self.bits} bits and kind {self.kind!r} do not go together: nf4 and fp4 have 4 bits, int8 has 8"
            )
        return self

    def torch_dtype(self, device: torch.device) -> torch.dtype:
        """The compute type on a device."""
        if self.compute_dtype != "auto":
            dtype = getattr(torch, self.compute_dtype)
            assert isinstance(dtype, torch.dtype)
            return dtype
        return torch.bfloat16 if device.type == "cuda" and has_bf16(device) else torch.float32

    def config(self, device: torch.device) -> BitsAndBytesConfig:
        """The same for transformers."""
        if device.type == "mps":
            raise SettingsError("bitsandbytes has no kernels for this device; load without quantization, or on the CPU")
        if self.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.kind,
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=self.torch_dtype(device),
        )


def differentiable(network: nn.Module) -> None:
    """Keep 4-bit weights in the layout that has a backward pass.

    On processors with AVX512-BF16 bitsandbytes lays them anew at the first forward pass without gradients. That product
    rounds the scales to bf16 and gives no gradient, so an adapter trained afterwards would learn from half a network.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - torch types it as a tensor or module
