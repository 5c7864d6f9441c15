"""Training without a network's own dropout, for losses that compare it with a reference read without any.

The adapter's dropout, which somebody asked for, stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from condition.adapters.attach import is_learned


@contextmanager
def without_dropout(network: nn.Module) -> Iterator[None]:
    """Inside, dropout of the network lets everything pass; behind it all is as it was.

    A share lies in a `Dropout`, or as a number in a layer that drops by a function, as attention does.
    """
    before = list(_shares(network))
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, share in before:
            setattr(module, name, share)


def _shares(network: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    for path, module in network.named_modules():
        if is_learned(path) or any(part.startswith("lora_") for part in path.split(".")):
            continue
        for name, value in list(vars(module).items()):
            is_share = name == "p" if isinstance(module, nn.Dropout) else name.endswith(("dropout", "layerdrop"))
            if is_share and isinstance(value, float):
                yield module, name, value
