"""Where quantized weights keep their scales. All is known by name: neither library has to be there, or be imported.

bitsandbytes, 4 bits   a QuantState, of the weight and of its layer; its scales may have scales of their own
bitsandbytes, 8 bits   `CB` and `SCB` of the weight, which the layer's MatmulLtState takes over when it first runs
torchao                the weight itself, which is made of several tensors
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn


def is_quantized(network: nn.Module) -> bool:
    """Whether weights stand for others, and have no gradient: bitsandbytes', or torchao's, which nobody marks."""
    return bool(getattr(network, "is_quantized", False)) or any(is_torchao(p) for p in network.parameters())


def is_torchao(tensor: Tensor) -> bool:
    """Whether a tensor is one of torchao's."""
    return type(tensor).__module__.startswith("torchao.")


def parts(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that a tensor is made of: torchao's hold numbers and scales apart."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
        return
    for name in flatten()[0]:
        yield from parts(getattr(tensor, name))


def is_state(value: object) -> bool:
    """Whether a value holds the scales of 4 bits."""
    return type(value).__name__ == "QuantState"


def settle(network: nn.Module) -> None:
    """Let layers of int8 take their scales from their weights, as they do when they first run.

    A weight that two networks share would give its scales to whichever runs first, and the other one has none.
    """
    for module in network.modules():
        if type(module).__name__ == "Linear8bitLt" and getattr(module.weight, "CB", None) is not None:
            cast(Any, module).init_8bit_state()


def kept(holder: Any) -> Iterator[Any]:
    """What a weight or layer of bitsandbytes keeps outside parameters and buffers: tensors and states of 4 bits."""
    for name, value in vars(holder).items():
        if is_state(value) or (name in ("CB", "SCB") and isinstance(value, Tensor)):
            yield value
        elif type(value).__name__ == "MatmulLtState":
            yield from (inner for inner in vars(value).values() if isinstance(inner, Tensor))


def scales(holder: Any) -> Iterator[Tensor]:
    """All tensors of what a weight or layer keeps."""
    for found in kept(holder):
        if isinstance(found, Tensor):
            yield found
        else:
            yield from (inner for inner in vars(found).values() if isinstance(inner, Tensor))
            yield from scales(found)


def named_scales(weight: Tensor, layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """Scales of a layer's weight, the same before it first runs and behind that."""
    if (state := getattr(weight, "quant_state", None)) is not None:
        yield from named_parts(state)
    for place in (weight, getattr(layer, "state", None)):
        if (found := getattr(place, "SCB", None)) is not None:
            yield " scales", found


def named_parts(state: Any) -> Iterator[tuple[str, Any]]:
    """Tensors and settings of a state of 4 bits."""
    yield from ((f".{part}", value) for part, value in sorted(state.as_dict().items()))
