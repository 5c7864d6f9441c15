"""Attaching without touching: an adapted network has modules of its own and the base's very tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def shared_copy(network: PreTrainedModel) -> PreTrainedModel:
    """A second network over the same tensors.

    Adapters put their layers into the copy; whoever holds the base goes on with a base. Costs no memory to speak of.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in _tensors(network)}
    hooks = network.__dict__.pop("_hf_hook", None)
    try:
        twin = copy.deepcopy(network, memo)
    finally:
        if hooks is not None:
            network.__dict__["_hf_hook"] = hooks
    return twin


def private_copy(network: PreTrainedModel) -> PreTrainedModel:
    """Like `shared_copy`, but trainable tensors are copied, so that training the copy leaves the original as it was."""
    memo: dict[int, object] = {id(t): t for t in _tensors(network) if not t.requires_grad}
    return copy.deepcopy(network, memo)


def freeze(network: PreTrainedModel) -> None:
    """Ask for no gradient anywhere."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)


def in_float32(network: PreTrainedModel) -> PreTrainedModel:
    """The network with its trained numbers in fp32: a small step would be rounded away in a narrower type."""
    for parameter in trainable(network).values():
        parameter.data = parameter.data.float()
    return network


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that ask for a gradient, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
    for module in network.modules():  # bitsandbytes keeps its scales outside parameters and buffers
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) or type(value).__name__ == "QuantState":
                yield value
