"""Root-mean-square norms (Zhang & Sennrich 2019, arXiv 1910.07467) with fewer passes over memory.

`trained` has its backward by hand, `written` is for passes without gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[[Tensor], Tensor]
_TRIED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def is_rms_norm(module: nn.Module) -> bool:
    """Known by its class's name and parts, and by a trial: others add one to the weight or take a gate."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, nn.Parameter) or epsilon is None:
        return False
    if "forward" in module.__dict__:
        return False
    if module not in _TRIED:  # asked at each call of a model
        trial = torch.linspace(-1, 1, 2 * weight.numel()).view(1, 2, -1)
        _TRIED[module] = agrees(module, trained(module, torch.float32), trial)
    return _TRIED[module]


def trained(module: Any, dtype: torch.dtype) -> Forward:
    """A forward whose gradient goes to its input alone; the output is in `dtype`."""

    def forward(hidden_states: Tensor) -> Tensor:
        y: Tensor = _RMSNorm.apply(  # type: ignore[no-untyped-call]
            hidden_states, module.weight, module.variance_epsilon, dtype
        )
        return y

    return forward


def written(module: Any) -> Forward:
    """A forward for fp32 where no gradient is asked for."""

    def forward(hidden_states: Tensor) -> Tensor:
        return functional.rms_norm(hidden_states, module.weight.shape, module.weight, module.variance_epsilon)

    return forward


def agrees(module: nn.Module, forward: Forward, trial: Tensor) -> bool:
    """Whether a forward gives what the module itself gives for `trial` [1, 2, width]."""
    try:
        with torch.no_grad():
            return bool(torch.allclose(module.forward(trial), forward(trial), rtol=1e-3, atol=1e-5))
    except (TypeError, RuntimeError):  # it takes more than one tensor, or another dtype
        return False


class _RMSNorm(torch.autograd.Function):
    """`y = w x / rms(x)`, in float32 inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        """x [..., width] -> y [..., width] in `dtype`."""
        wide = x.float()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, inverse, weight)
        y: Tensor = (wide * inverse).mul_(weight)
        return y.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """`dx = (w dy - x (w dy · x) / (width rms²)) / rms`."""
        x, inverse, weight = ctx.saved_tensors
        grad, wide = grads[0] * weight, x.float()
        along = torch.linalg.vecdot(grad, wide).unsqueeze(-1)
        share = inverse.pow(3).mul_(along).div_(-x.shape[-1])
        return grad.mul_(inverse).addcmul_(wide, share).to(x.dtype), None, None, None
