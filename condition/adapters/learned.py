"""Folders of adapters whose modules are our own: their tensors by name, as safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condition.errors import ContractError

FILE = "learned.safetensors"


def tensors_under(network: nn.Module, part: str) -> dict[str, Tensor]:
    """Parameters and buffers of modules of a name, wherever they stand."""
    found = [*network.named_parameters(), *network.named_buffers()]
    return {name: tensor for name, tensor in found if part in name.split(".")}


def save_tensors(tensors: dict[str, Tensor], folder: Path, kind: str) -> None:
    """Write tensors of an adapter of a kind."""
    content = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(content, folder / FILE, {"format": "condition-adapter-1", "kind": kind})


def load_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    """Put saved numbers in their places. Raises ContractError where they are not those of this adapter here."""
    saved = load_file(folder / FILE)
    if problem := _difference(tensors, saved):
        raise ContractError(
            f"{folder / FILE} is not of this adapter on this base: {problem}. Give the right base; if this is it, "
            f"another version of the library wrote the folder: load it with that one, or tune and save again"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])


def _difference(here: dict[str, Tensor], saved: dict[str, Tensor]) -> str | None:
    if missing := sorted(here.keys() ^ saved.keys()):
        return f"{missing[0]} is only in {'the file' if missing[0] in saved else 'the network'}"
    other = (name for name in here if here[name].shape != saved[name].shape)
    return next((f"{n} is {list(saved[n].shape)} there and {list(here[n].shape)} here" for n in other), None)
