"""Products with frozen weights and their low-rank updates, with the backward pass by hand.

A LoRA layer (Hu et al. 2021, arXiv 2106.09685) computes `y = W x + b + s B A x`. Autograd would save and sum more than
that needs: here projections of the same input share one product with their stacked `A`, sums happen inside the
products, and in bfloat16 a frozen `W` is laid out once for the product and once for the transposed product.

    layer = (frozen(linear, torch.float32),)
    (y,) = Projections.apply(x, layer, (scaling,), torch.float32, a, b)    # [tokens, in] -> [tokens, out]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from condition import onednn


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
class OneDNN:
    """A weight for oneDNN's products: shared as it is in float32, in bfloat16 a copy laid out for each direction.

    In float32 copies would gain a thirtieth for twice the memory of the base.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._lay = onednn.lay_out if dtype == torch.bfloat16 else Tensor.detach
        self._weight, self._dtype, self._bias = weight, dtype, bias
        self._forward = self._lay(weight.to(dtype))
        self._backward: Tensor | None = None

    def product(self, x: Tensor, /) -> Tensor:
        """`x W^T + b`."""
        return onednn.linear(x, self._forward, self._bias)

    def transposed(self, grad: Tensor, total: Tensor | None, /) -> Tensor:
        """`total + grad W`."""
        if self._backward is None:  # never asked for without gradients
            self._backward = self._lay(self._weight.t().to(self._dtype))
        if total is None:
            return onednn.linear(grad, self._backward, None)
        return onednn.linear_add(grad, self._backward, total)


def frozen(linear: nn.Linear, dtype: torch.dtype) -> Frozen:
    """The weight ready for products in `dtype`; a weight that has this dtype is shared, never written."""
    weight = linear.weight.detach()
    bias = None if linear.bias is None else linear.bias.detach().to(dtype)
    known = dtype in (torch.bfloat16, torch.float32) and onednn.works(dtype)
    return OneDNN(weight, bias, dtype) if known else Plain(weight.to(dtype), bias)


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
