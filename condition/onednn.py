"""Products with one weight by oneDNN, on the CPU: its operators in torch are private, so they are tried once.

In float32 they take a tenth less time than torch's own (a third less with the wide weight of a head), with a weight in
torch's own layout. In bfloat16 any layout but their own is laid out anew at each call.

    if works(torch.float32):
        y = linear(x, weight, None)         # [..., in], [out, in] -> [..., out]
        back = linear(grad, weight.t(), None)
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x W^T + b`: [..., in] -> [..., out], by a weight `[out, in]` of any strides, or one that was laid out."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def linear_add(x: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    """`total + x W^T`: [rows, in] -> [rows, out], a tensor of its own."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, total, weight, None, "add")
    return y


def lay_out(weight: Tensor) -> Tensor:
    """A copy of a weight `[out, in]` in oneDNN's own layout; what suits many rows serves few as well."""
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 512)
    return laid


@cache
def works(dtype: torch.dtype) -> bool:
    """Whether this torch has the operators and they are right in `dtype`; says so once if not."""
    weight = torch.linspace(-1, 1, 32 * 16).view(32, 16).to(dtype)
    x, grad = (torch.linspace(-1, 1, 8 * width).view(8, width).to(dtype) for width in (16, 32))
    try:
        for forward, backward in ((weight, weight.t()), (lay_out(weight), lay_out(weight.t()))):
            torch.testing.assert_close(linear(x, forward, None), functional.linear(x, weight))
            torch.testing.assert_close(linear_add(grad, backward, x), torch.addmm(x, grad, weight))
    except (AttributeError, RuntimeError, AssertionError) as error:
        if "cpu support" in str(error):  # the processor has no products in this type, laid out or not
            return False
        warnings.warn(f"{dtype} runs without oneDNN's products, slower: {error}", stacklevel=2)
        return False
    return True
