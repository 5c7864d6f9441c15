"""Linear layers that read one input: what they multiply by can share one product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast, final

from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of siblings that read one input in a Llama-like network."""


def siblings(
    network: PreTrainedModel, suits: Callable[[nn.Linear | LoraLinear], bool]
) -> Iterator[list[nn.Linear | LoraLinear]]:
    """Linear and LoRA layers that suit, those that read one input together, each layer once."""
    grouped: set[nn.Module] = set()
    for parent in [] if network.config.is_encoder_decoder else network.modules():  # cross attention reads two inputs
        for names in SAME_INPUT:
            found = [getattr(parent, name, None) for name in names]
            layers = [layer for layer in found if isinstance(layer, nn.Linear | LoraLinear) and suits(layer)]
            if len(layers) > 1:
                grouped.update(layers)
                yield layers
    adapted = [module for module in network.modules() if isinstance(module, LoraLinear)]
    inside = {module.base_layer for module in adapted if suits(module)}
    factors = {part for module in adapted for part in _factors(module)}
    for module in network.modules():
        taken = module in grouped or module in inside or module in factors
        if not taken and isinstance(module, nn.Linear | LoraLinear) and suits(module):
            yield [module]


def linear_of(layer: nn.Module) -> nn.Linear:
    """The layer itself, or what a LoRA stands on."""
    return cast(nn.Linear, layer.base_layer if isinstance(layer, LoraLinear) else layer)


def is_usual(linear: nn.Module) -> bool:
    """Whether a layer is torch's own product and nobody looks on: torchao's weights are of a type of their own."""
    usual = type(linear) is nn.Linear and type(linear.weight) is nn.Parameter
    return usual and not linear._forward_hooks and "forward" not in linear.__dict__


def is_plain(layer: LoraLinear) -> bool:
    """Whether a layer is `W x + b + s B A x`: one adapter without bias, variant or hooks, not merged."""
    names = layer.active_adapters
    if len(names) != 1 or names[0] not in layer.lora_A or layer.merged or names[0] in layer.lora_variant:
        return False
    parts = [layer, layer.base_layer, layer.lora_A[names[0]], layer.lora_B[names[0]]]
    return parts[3].bias is None and not any("forward" in part.__dict__ or part._forward_hooks for part in parts)


def _factors(layer: LoraLinear) -> Iterator[nn.Module]:
    yield from layer.lora_A.values()
    yield from layer.lora_B.values()


@final
class Shared:
    """Outputs of siblings from one computation: the first one called computes all, the others find theirs waiting."""

    def __init__(self, compute: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self._compute = compute
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}

    def forward_of(self, index: int) -> Callable[[Tensor], Tensor]:
        """The forward of one of them, by its place."""

        def forward(x: Tensor) -> Tensor:
            if self._input is not x or index not in self._outputs:
                self._input, self._outputs = x, dict(enumerate(self._compute(x)))
            output = self._outputs.pop(index)
            if not self._outputs:
                self._input = None
            return output

        return forward
