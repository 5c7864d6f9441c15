"""Writing on the CPU with weights laid out once: torch lays a weight out anew at each product of a few rows.

Inside `PackedProducts` linear layers, plain or with a LoRA, multiply by copies in oneDNN's own layout, those that read
one input in one product, and a norm is one call. The numbers are those of the layers themselves, but for rounding.
Copies are kept for the next time, shared by all adapters on a base, and made again when a weight has changed.

    with torch.inference_mode(), PackedProducts(network):
        network(input_ids)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import cast, final

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from condition import onednn
from condition.adapters.copies import Copies
from condition.adapters.norms import Forward, is_rms_norm, written
from condition.adapters.siblings import Shared, is_plain, is_usual, linear_of, siblings

COPIES = Copies(1 << 30)
"""A network whose weights take more than a gigabyte keeps torch's own layout."""


@final
class PackedProducts:
    """Inside `with`, products without gradients use packed weights: on a CPU, where the copies have room.

    Looks at the weights once, when it is made, and may be entered again and again.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self._thread = 0
        self._forwards = [(layer, self._mine(layer.forward, forward)) for layer, forward in _forwards(network)]

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        for layer, forward in self._forwards:
            layer.__dict__["forward"] = forward

    def __exit__(self, *_: object) -> None:
        for layer, _forward in self._forwards:
            layer.__dict__.pop("forward", None)

    def _mine(self, own: Forward, other: Forward) -> Forward:
        """The layer's own forward for gradients, and for other threads, which did not ask for another."""

        def forward(x: Tensor) -> Tensor:
            return own(x) if torch.is_grad_enabled() or threading.get_ident() != self._thread else other(x)

        return forward


def _forwards(network: PreTrainedModel) -> Iterator[tuple[nn.Module, Forward]]:
    if network.device.type != "cpu":
        return
    if network.dtype == torch.float32:
        yield from ((module, written(module)) for module in network.modules() if is_rms_norm(module))
    groups = list(siblings(network, _can_be_packed))
    copies = COPIES.of([tuple(linear_of(layer).weight for layer in group) for group in groups])
    for group, copy in zip(groups, copies, strict=False):  # none where they have no room
        shared = Shared(_Product(group, copy))
        yield from ((layer, shared.forward_of(index)) for index, layer in enumerate(group))


def _can_be_packed(layer: nn.Module) -> bool:
    if isinstance(layer, LoraLinear) and not is_plain(layer):
        return False
    linear = linear_of(layer)
    usual = is_usual(linear) and linear.weight.dtype in (torch.float32, torch.bfloat16)
    return usual and onednn.works(linear.weight.dtype)


@final
class _Product:
    """Outputs of layers that read one input, by their common packed weight."""

    def __init__(self, layers: Sequence[nn.Module], weight: Tensor) -> None:
        self._weight = weight
        linears = [linear_of(layer) for layer in layers]
        self._sizes = [linear.out_features for linear in linears]
        biased = any(linear.bias is not None for linear in linears)
        biases = [x.weight.new_zeros(x.out_features) if x.bias is None else x.bias.detach() for x in linears]
        self._bias = torch.cat(biases) if biased else None
        self._update = _update(layers)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        y = onednn.linear(x, self._weight, self._bias)
        if self._update is not None:
            a, b = self._update
            wide = y.to(a.dtype)  # as PEFT: the update is added in the type of its factors
            down = functional.linear(x.to(a.dtype), a)
            y = torch.addmm(wide.flatten(0, -2), down.flatten(0, -2), b).view(wide.shape).to(y.dtype)
        parts: tuple[Tensor, ...] = y.split(self._sizes, -1)
        return parts


def _update(layers: Sequence[nn.Module]) -> tuple[Tensor, Tensor] | None:
    """All low-rank updates as two factors: stacked `A`s [ranks, in] and scaled `B`s as blocks of [ranks, out]."""
    stacked, blocks = [], []
    for layer in layers:
        if isinstance(layer, LoraLinear) and not layer.disable_adapters:
            name = layer.active_adapters[0]
            a, b = (cast(nn.Linear, part[name]).weight.detach() for part in (layer.lora_A, layer.lora_B))
            stacked.append(a)
            blocks.append((b * layer.scaling[name]).t())
        else:
            blocks.append(torch.zeros(0, linear_of(layer).out_features))
    return (torch.cat(stacked), torch.block_diag(*blocks)) if stacked else None
