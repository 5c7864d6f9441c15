"""Training steps on the CPU with fewer passes over memory: the numbers of the layers themselves, sooner.

Inside `fused` three kinds of modules have another forward, each with its backward by hand, and their own after it:
frozen linear layers, plain or with a LoRA, root-mean-square norms and gated MLPs (SwiGLU, Shazeer 2020, arXiv
2002.05202). They are known by their structure; every other module is left alone. A base and the same base with a LoRA
that changes nothing give the same numbers to the bit, so that a reference differs from its policy by training alone.

    network.add_adapter(peft.LoraConfig(target_modules="all-linear"))
    with fused(network, torch.bfloat16):
        for batch in batches:
            loss(network.model(**batch)).backward()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from condition.adapters.norms import Forward, agrees, is_rms_norm, trained
from condition.adapters.projections import Projections, frozen
from condition.adapters.siblings import Shared, is_plain, is_usual, linear_of, siblings

Layer = nn.Linear | LoraLinear
_SWAPPED: WeakKeyDictionary[nn.Module, Mapping[nn.Module, Forward]] = WeakKeyDictionary()
"""By network, the forwards that its modules have inside `fused`."""


@contextmanager
def fused(network: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """Train `network` in `dtype`, float32 or bfloat16; the adapter's weights stay float32, the base is only read.

    bfloat16 keeps two packed copies of the frozen weights meanwhile, together as large as those weights in float32, and
    only the one that is needed without gradients.
    """
    swapped = dict(_forwards(network, dtype)) if network.device.type == "cpu" else {}
    _SWAPPED[network] = swapped
    _swap(swapped)
    try:
        yield
    finally:
        _SWAPPED.pop(network, None)
        _swap_back(swapped)


@contextmanager
def unfused(network: PreTrainedModel) -> Iterator[None]:
    """For a while inside `fused`, the layers' own forwards: a model that is asked meanwhile answers as when served."""
    swapped = _SWAPPED.get(network, {})
    _swap_back(swapped)
    try:
        yield
    finally:
        _swap(swapped)


def _swap(forwards: Mapping[nn.Module, Forward]) -> None:
    for module, forward in forwards.items():
        module.__dict__["forward"] = forward


def _swap_back(forwards: Iterable[nn.Module]) -> None:
    for module in forwards:
        module.__dict__.pop("forward", None)


def _forwards(network: PreTrainedModel, dtype: torch.dtype) -> Iterator[tuple[nn.Module, Forward]]:
    for layers in _groups(network):
        shared = Shared(_Product(layers, dtype))
        yield from ((layer, shared.forward_of(index)) for index, layer in enumerate(layers))
    for module in network.modules():
        if is_rms_norm(module) and not module.weight.requires_grad:
            yield module, trained(module, dtype)
        elif "forward" not in module.__dict__ and _is_gated_mlp(module):
            yield module, _mlp_forward(module)


def _groups(network: PreTrainedModel) -> Iterator[list[Layer]]:
    """Layers to compute, those that read one input by the same adapter, or by none, together."""
    head = network.get_output_embeddings()  # it is read at chosen positions only, see `prefix_sharing.head`
    for group in siblings(network, _can_be_fused):
        layers = [layer for layer in group if layer is not head]
        if len({_adapter(layer) for layer in layers}) == 1:
            yield layers
        else:
            yield from ([layer] for layer in layers)


def _adapter(layer: Layer) -> str | None:
    return layer.active_adapters[0] if isinstance(layer, LoraLinear) else None


def _can_be_fused(layer: Layer) -> bool:
    """A frozen linear layer, plain or with a LoRA without dropout."""
    if isinstance(layer, LoraLinear):
        if not is_plain(layer):
            return False
        dropout = layer.lora_dropout[layer.active_adapters[0]]
        if not isinstance(dropout, nn.Identity) and getattr(dropout, "p", None) != 0:
            return False
    base = linear_of(layer)
    return is_usual(base) and not base.weight.requires_grad


@final
class _Product:
    """Outputs of layers that read one input, with their backward by hand."""

    def __init__(self, layers: list[Layer], dtype: torch.dtype) -> None:
        self._weights = tuple(frozen(linear_of(layer), dtype) for layer in layers)
        self._adapted = [layer for layer in layers if isinstance(layer, LoraLinear)]
        self._dtype = dtype

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        # Asked at each call: adapters are switched, on and off.
        layers = [(layer, layer.active_adapters[0]) for layer in self._adapted if not layer.disable_adapters]
        factors = [layer.lora_A[name].weight for layer, name in layers]
        factors += [layer.lora_B[name].weight for layer, name in layers]
        scalings = tuple(float(layer.scaling[name]) for layer, name in layers)
        # torch leaves apply untyped, here and below
        y: tuple[Tensor, ...] = Projections.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]), self._weights, scalings, self._dtype, *factors
        )
        # Views of outside the function: adapters of other kinds add to them in place.
        return tuple(part.view(*x.shape[:-1], -1) for part in y)


class _SwiGLU(torch.autograd.Function):
    """`silu(gate) * up`, which is not kept: only gate and up are."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """gate, up [..., width] -> [..., width]."""
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """With `s = silu(gate)`: the gradients `dh up s'(gate)` and `dh s`."""
        gate, up = ctx.saved_tensors
        slope = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return slope, functional.silu(gate).mul_(grads[0])


def _is_gated_mlp(module: Any) -> bool:
    parts = all(isinstance(getattr(module, f"{name}_proj", None), Layer) for name in ("gate", "up", "down"))
    if not parts or not type(getattr(module, "act_fn", None)).__name__.startswith("SiLU"):
        return False
    trial = torch.linspace(-1, 1, 2 * module.gate_proj.in_features).view(1, 2, -1)
    return agrees(module, _mlp_forward(module), trial.to(module.gate_proj.weight.dtype))


def _mlp_forward(module: Any) -> Forward:
    def forward(x: Tensor) -> Tensor:
        product = _SwiGLU.apply(module.gate_proj(x), module.up_proj(x))  # type: ignore[no-untyped-call]
        y: Tensor = module.down_proj(product)
        return y

    return forward
