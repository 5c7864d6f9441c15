"""Training without a network's own dropout, for losses that compare it with a reference read without any.

The adapter's dropout, which somebody asked for, stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_dropout(network: nn.Module) -> Iterator[None]:
    """Inside, dropout layers of the network let everything pass; behind it they are as they were."""
    before = {
        module: module.p
        for name, module in network.named_modules()
        if isinstance(module, nn.Dropout) and not any(part.startswith("lora_") for part in name.split("."))
    }
    for module in before:
        module.p = 0.0
    try:
        yield
    finally:
        for module, share in before.items():
            module.p = share
