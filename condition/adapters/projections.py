"""Products with frozen weights and their low-rank updates, with the backward pass by hand.

A LoRA layer (Hu et al. 2021, arXiv 2106.09685) computes `y = W x + b + s B A x`. Autograd would save and sum more than
that needs: here projections of the same input share one product with their stacked `A`, sums happen inside the
products, and in bfloat16 a frozen `W` is laid out once for the product and once for the transposed product.

    layer = (frozen(linear, torch.float32),)
    (y,) = Projections.apply(x, layer, (scaling,), torch.float32, a, b)    # [tokens, in] -> [tokens, out]
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional


class Frozen(Protocol):
    """A frozen weight `[out, in]` that is ready for both of its products."""

    def product(self, x: Tensor, /) -> Tensor:
        """`x W^T + b`: [tokens, in] -> [tokens, out], a tensor of its own."""

    def transposed(self, grad: Tensor, total: Tensor | None, /) -> Tensor:
        """`total + grad W`: [tokens, out] -> [tokens, in]; may be written into `total`."""


@final
class Plain:
    """A weight as torch keeps it, shared with whoever else uses it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def product(self, x: Tensor, /) -> Tensor:
        """`x W^T + b`."""
        return functional.linear(x, self._weight, self._bias)

    def transposed(self, grad: Tensor, total: Tensor | None, /) -> Tensor:
        """`total + grad W`."""
        return grad @ self._weight if total is None else total.addmm_(grad, self._weight)


@final
class Packed:
    """A copy in oneDNN's own layout for each direction: a weight in torch's layout is laid out anew at each call."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._weight, self._dtype, self._bias = weight, dtype, bias
        self._forward = pack(weight.to(dtype))
        self._backward: Tensor | None = None

    def product(self, x: Tensor, /) -> Tensor:
        """`x W^T + b`."""
        return packed_linear(x, self._forward, self._bias)

    def transposed(self, grad: Tensor, total: Tensor | None, /) -> Tensor:
        """`total + grad W`."""
        if self._backward is None:  # never asked for without gradients
            self._backward = pack(self._weight.t().to(self._dtype))
        if total is None:
            return packed_linear(grad, self._backward, None)
        summed: Tensor = torch.ops.mkldnn._linear_pointwise.binary(grad, total, self._backward, None, "add")
        return summed


def frozen(linear: nn.Linear, dtype: torch.dtype) -> Frozen:
    """The weight ready for products in `dtype`; a weight that has this dtype is shared, never written."""
    weight = linear.weight.detach()
    bias = None if linear.bias is None else linear.bias.detach().to(dtype)
    # In float32 packing gains a tenth of the time for twice the memory of the base.
    packs = dtype == torch.bfloat16 and can_pack(dtype)
    return Packed(weight, bias, dtype) if packs else Plain(weight.to(dtype), bias)


def pack(weight: Tensor) -> Tensor:
    """A weight `[out, in]` in oneDNN's own layout for `packed_linear`; what suits many rows serves few as well."""
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 512)
    return laid


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """`x W^T + b`: [..., in] -> [..., out]."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's packed products (they are private) and they are right; says so once if not."""
    weight = torch.linspace(-1, 1, 32 * 16).view(32, 16).to(dtype)
    x, grad = (torch.linspace(-1, 1, 8 * width).view(8, width).to(dtype) for width in (16, 32))
    try:
        packed, plain = Packed(weight, None, dtype), Plain(weight, None)
        torch.testing.assert_close(packed.product(x), plain.product(x))
        torch.testing.assert_close(packed.transposed(grad, x.clone()), plain.transposed(grad, x.clone()))
    except (AttributeError, RuntimeError, AssertionError) as error:
        if "cpu support" in str(error):  # the processor has no products in this type, packed or not
            return False
        warnings.warn(f"{dtype} runs without packed weights, slower: {error}", stacklevel=2)
        return False
    return True


class Projections(torch.autograd.Function):
    """Products of one input with frozen weights, each with its low-rank update unless there are no factors."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights: tuple[Frozen, ...],
        scalings: tuple[float, ...],
        dtype: torch.dtype,
        *factors: Tensor,
    ) -> tuple[Tensor, ...]:
        """x [tokens, in], factors A1 [rank, in], …, B1 [out, rank], … -> y1 [tokens, out], …, in `dtype`."""
        flat = x.to(dtype)
        outputs = [weight.product(flat) for weight in weights]
        ctx.weights, ctx.scalings, ctx.source = weights, scalings, x.dtype
        if factors:
            a, bs = _operands(factors, scalings, dtype)
            down = functional.linear(flat, a)
            for y, u, b in zip(outputs, _parts(down, bs), bs, strict=True):
                y.addmm_(u, b.t())
            ctx.save_for_backward(flat, down, a, *bs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Gradients of y1, … -> those of x and of the factors."""
        saved = ctx.saved_tensors  # asked once: under checkpointing each asking computes the layer again
        if not saved:
            return _input_gradient(ctx, grads), None, None, None
        flat, down, a, *bs = saved
        up = torch.cat([grad @ b for grad, b in zip(grads, bs, strict=True)], 1)
        grad_b = [
            # The thin factor comes first: oneDNN is slower when the wide one has to be transposed.
            (u.t() @ grad).t().float().mul_(scaling)
            for u, grad, scaling in zip(_parts(down, bs), grads, ctx.scalings, strict=True)
        ]
        grad_a = (up.t() @ flat).float().split([b.shape[1] for b in bs])
        return _input_gradient(ctx, grads, up, a), None, None, None, *grad_a, *grad_b


def _operands(
    factors: tuple[Tensor, ...], scalings: tuple[float, ...], dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """The stacked `A` [ranks, in] and each scaled `B` [out, rank]."""
    count = len(scalings)
    scaled = [(b * scaling).to(dtype) for b, scaling in zip(factors[count:], scalings, strict=True)]
    return torch.cat(factors[:count]).to(dtype), scaled


def _parts(down: Tensor, bs: list[Tensor]) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = down.split([b.shape[1] for b in bs], 1)
    return parts


def _input_gradient(
    ctx: Any, grads: Sequence[Tensor], up: Tensor | None = None, a: Tensor | None = None
) -> Tensor | None:
    if not ctx.needs_input_grad[0]:
        return None
    total: Tensor = ctx.weights[0].transposed(grads[0], None)
    for weight, grad in zip(ctx.weights[1:], grads[1:], strict=True):
        total = weight.transposed(grad, total)
    if up is not None and a is not None:
        total.addmm_(up, a)
    return total.to(ctx.source)
