"""Weights in 8, 4, 3 or 2 bits, on the GPU and on the CPU.

nf4, fp4, int8   bitsandbytes: Dettmers et al. 2023, arXiv 2305.14314; 2022, arXiv 2208.07339
intx             torchao: whole numbers of 8, 4, 3 or 2 bits with a scale for each 32 weights. In memory each takes a
                 byte; 2 bits are for networks that were trained for them (`Settings(quantization_aware=2)`)
int8-dynamic     torchao: 8 bits for weights and, measured anew for each token, for what goes through; not to train on

Layers stay frozen and keep their bits; adapters beside them are trained in fp32. No layer is upcast and no
preparation step is needed: gradients reach the adapters through the quantized products.

    load(name, quantization=Quantization(bits=3, kind="intx"))
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from condition.errors import SettingsError
from condition.models.device import has_bf16
from condition.types import Options

log = logging.getLogger("condition")

GROUP = 32
"""Weights that share a scale."""
BLOCK = 64
"""The same in bitsandbytes' 4 bits."""
BITS = {"nf4": (4,), "fp4": (4,), "int8": (8,), "intx": (8, 4, 3, 2), "int8-dynamic": (8,)}


class Quantization(Options):
    """How a base's linear layers are stored."""

    bits: Literal[8, 4, 3, 2] = 4
    kind: Literal["nf4", "fp4", "int8", "intx", "int8-dynamic"] = "nf4"
    """The code. Where it is left out: nf4 with 4 bits, int8 with 8, intx with 3 and 2."""
    double: bool = True
    """Quantize the scales too: 0.4 bits a weight less (nf4 and fp4 only)."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What nf4 and fp4 weights are unpacked to for a product (nf4 and fp4 only)."""

    @model_validator(mode="before")
    @classmethod
    def _kind_follows_bits(cls, values: object) -> object:
        if isinstance(values, dict) and "kind" not in values:
            return {**values, "kind": {8: "int8", 3: "intx", 2: "intx"}.get(values.get("bits", 4), "nf4")}
        if isinstance(values, dict) and values.get("kind") in ("int8", "int8-dynamic"):
            return {"bits": 8, **values}
        return values

    @model_validator(mode="after")
    def _bits_fit_kind(self) -> Quantization:
        if self.bits not in BITS[self.kind]:
            raise ValueError(
                f"{self.bits} bits and kind {self.kind!r} do not go together: nf4 and fp4 have 4 bits, int8 and "
                f"int8-dynamic 8, intx 8, 4, 3 or 2"
            )
        changed = {
            "double=False": not self.double,
            f"compute_dtype={self.compute_dtype!r}": self.compute_dtype != "auto",
        }
        idle = [name for name, is_changed in changed.items() if is_changed]
        if idle and self.kind not in ("nf4", "fp4"):
            raise ValueError(
                f"{' and '.join(idle)} would do nothing with {self.name}, only with nf4 and fp4: leave it out"
            )
        return self

    @property
    def name(self) -> str:
        """Kind and, where the kind does not say it, bits: nf4, int8, intx3 …"""
        return f"intx{self.bits}" if self.kind == "intx" else self.kind

    @property
    def trains(self) -> bool:
        """Whether gradients pass through the layers, so that an adapter can be trained beside them."""
        return self.kind != "int8-dynamic"

    @property
    def saves(self) -> bool:
        """Whether a network of such weights can be written as it is; adapters beside them can in any case."""
        return self.kind not in ("intx", "int8-dynamic")

    def torch_dtype(self, device: torch.device) -> torch.dtype:
        """The compute type on a device."""
        if self.compute_dtype != "auto":
            dtype = getattr(torch, self.compute_dtype)
            assert isinstance(dtype, torch.dtype)
            return dtype
        return torch.bfloat16 if device.type == "cuda" and has_bf16(device) else torch.float32

    def config(self, device: torch.device) -> BitsAndBytesConfig | None:
        """The same for transformers, which quantizes while it loads; none for what `apply` does afterwards.

        Raises SettingsError where this device or this installation can't do it.
        """
        if self.kind in ("intx", "int8-dynamic"):
            _torchao()
            return None
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

    def apply(self, network: PreTrainedModel) -> None:
        """Quantize the linear layers of a network that is loaded, but for its output head."""
        if self.kind not in ("intx", "int8-dynamic"):
            return
        ao = _torchao()
        head = network.get_output_embeddings()
        kept = {id(head)} if head is not None else set()
        by_group: dict[int, set[int]] = {}
        for module in network.modules():
            if isinstance(module, nn.Linear) and id(module) not in kept:
                by_group.setdefault(group_of(module), set()).add(id(module))
        if not by_group:
            raise SettingsError(f"{type(network).__name__} has no linear layers that torchao knows: use kind='int8'")
        for group, members in by_group.items():
            ao.quantize_(network, self._torchao_config(group), filter_fn=lambda m, _, own=members: id(m) in own)

    def _torchao_config(self, group: int) -> Any:
        ao = _torchao()
        if self.kind == "int8-dynamic":
            return ao.Int8DynamicActivationInt8WeightConfig()
        granularity = ao.PerGroup(group) if group else ao.PerAxis(0)
        return ao.IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{self.bits}"), granularity=granularity)


def group_of(module: nn.Linear) -> int:
    """Weights of a layer that share a scale; 0, a whole row, where its inputs are no multiple."""
    return GROUP if module.in_features % GROUP == 0 else 0


def differentiable(network: nn.Module) -> None:
    """Keep 4-bit weights in the layout that has a backward pass.

    On processors with AVX512-BF16 bitsandbytes lays them anew at the first forward pass without gradients. That product
    rounds the scales to bf16 and gives no gradient, so an adapter trained afterwards would learn from half a network.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - torch types it as a tensor or module


def tell_of_widths(network: nn.Module) -> None:
    """Log which 4-bit layers bitsandbytes unpacks wrongly: on a CPU, even widths that end within a block."""
    cut = {
        module.in_features
        for module in network.modules()
        if type(module).__name__ == "Linear4bit"
        and isinstance(module, nn.Linear)
        and module.weight.device.type == "cpu"
        and module.in_features % BLOCK
        and module.in_features % 2 == 0
    }
    if cut:
        log.warning(
            "layers of %s inputs, no multiple of %s, lose two to four times as much in 4 bits on a CPU as they "
            "need to, by a fault of bitsandbytes: kind='intx' and bits=8 do without it",
            ", ".join(map(str, sorted(cut))),
            BLOCK,
        )


def _torchao() -> Any:
    """torchao's quantization. Raises SettingsError where it is not installed."""
    try:
        import torchao.quantization as ao  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            "the kinds intx and int8-dynamic are torchao's, which is not installed: "
            "pip install 'condition[quantization]'; nf4, fp4 and int8 need nothing more"
        ) from error
    return ao
