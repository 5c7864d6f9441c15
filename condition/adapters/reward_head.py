"""A head that gives one number for a text: a linear layer on the last hidden state of the last token, without a bias.

It starts at zero, so that an untrained reward model has no opinion, and lies in the network under `NAME`: trained,
checkpointed and copied with the adapter. In a saved folder it is a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

NAME = "score"
FILE = "reward_head.safetensors"


def add_head(network: PreTrainedModel) -> None:
    """Give a network a head to train; one that it has already stays."""
    if head_of(network) is not None:
        return
    width = network.config.get_text_config().hidden_size
    head = nn.Linear(width, 1, bias=False, device=network.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    network.add_module(NAME, head)


def head_of(network: PreTrainedModel) -> nn.Linear | None:
    """The head of a network; none where it has none."""
    head = network._modules.get(NAME)
    return head if isinstance(head, nn.Linear) and head.out_features == 1 else None


def save_head(network: PreTrainedModel, folder: Path) -> None:
    """Write the head of a network into a folder, where it has one."""
    head = head_of(network)
    if head is not None:
        save_file({"weight": head.weight.detach().cpu().contiguous()}, folder / FILE)


def load_head(network: PreTrainedModel, folder: Path) -> None:
    """Give a network the head that a folder holds, where it holds one."""
    if (folder / FILE).is_file():
        weight = load_file(folder / FILE)["weight"]
        add_head(network)
        head = head_of(network)
        assert head is not None
        head.weight.data.copy_(weight)


@contextmanager
def without_head(network: PreTrainedModel) -> Iterator[None]:
    """Inside, the network has no head: what is saved of it is what every library can read."""
    head = network._modules.pop(NAME) if head_of(network) is not None else None
    try:
        yield
    finally:
        if head is not None:
            network.add_module(NAME, head)
