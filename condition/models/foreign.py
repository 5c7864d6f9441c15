"""Whether a network computes by functions that nobody can see into: then its weights do not tell what it says."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules import module as modules

LIBRARIES = {"condition", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "torchao"}
"""Whose functions are known, and change with their versions only."""


def is_foreign(network: nn.Module) -> bool:
    """Whether there are hooks, but those of our adapters; functions that somebody put into a module; a class or a
    `forward` that is none of the libraries'."""
    everywhere = modules._global_forward_hooks or modules._global_forward_pre_hooks
    return bool(everywhere) or any(map(_is_foreign, network.modules()))


def _is_foreign(module: nn.Module) -> bool:
    put = [one for one in vars(module).values() if callable(one) and not isinstance(one, nn.Module | type)]
    return (
        any(home_of(hook) != "condition" for hook in hooks_of(module))
        or any(home_of(one) not in LIBRARIES for one in put)
        or not {home_of(type(module)), home_of(type(module).forward)} <= LIBRARIES
    )


def hooks_of(module: nn.Module) -> list[Any]:
    """What is called before and behind its forward pass."""
    return [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]


def home_of(function: Any) -> str:
    """The package that it was written in."""
    while isinstance(function, partial):
        function = function.func
    where: str = getattr(function, "__module__", None) or type(function).__module__
    return where.partition(".")[0]
