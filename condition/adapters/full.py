"""Tuning the base's own weights: all of them, or those of its last blocks.

    FullFineTuning()   a model of its own; saved whole, as a folder that every library reads
    LastLayers(2)      the last two blocks and the norm behind them; saved alone, loaded onto the same base

What is trained is a copy in fp32. The base given stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from condition.adapters.attach import check_network, copy_with_own, freeze, mark_of, marked, trainable
from condition.adapters.blocks import blocks, last_norms
from condition.adapters.injected import configs
from condition.adapters.learned import load_tensors, save_tensors
from condition.adapters.quantized import is_quantized
from condition.errors import SettingsError
from condition.types import Options

WHOLE = "full"
"""The kind whose folders need no base."""


class FullFineTuning(Options):
    """Every weight is trained."""

    kind: Literal["full"] = "full"

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """A copy of the network, all of it trainable. Raises SettingsError for a quantized or an adapted one."""
        check_network(network, self)
        _check_plain(network, "FullFineTuning")
        twin = copy_with_own(network, _all(network))
        _whole_in_float32(twin)
        for parameter in twin.parameters():
            parameter.requires_grad_(True)
        return marked(twin, self)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write the whole model."""
        network.save_pretrained(folder)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """Not onto a base. Raises SettingsError: the folder is a model by itself."""
        raise SettingsError(f"{folder} holds all of its weights and goes on no base: load it by itself, without base=")


class LastLayers(Options):
    """The last `n` blocks and the norm behind them are trained."""

    n: int = Field(default=2, ge=1)
    kind: Literal["last_layers"] = "last_layers"

    def __init__(self, n: int = 2, **rest: Any) -> None:
        super().__init__(n=n, **rest)

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """A network with its own last blocks over the base's tensors; wholly its own, in fp32, on a narrower base.

        Raises SettingsError for more blocks than there are, and for a quantized or an adapted base.
        """
        check_network(network, self)
        _check_plain(network, "LastLayers")
        count = len(blocks(network, "LastLayers"))
        if self.n > count:
            raise SettingsError(f"LastLayers.n = {self.n}, but {type(network).__name__} has {count} blocks")
        own = [p for module in self._parts(network) for p in module.parameters()]
        twin = copy_with_own(network, own if network.dtype == torch.float32 else _all(network))
        _whole_in_float32(twin)
        freeze(twin)
        for module in self._parts(twin):
            module.requires_grad_(True)
        return marked(twin, self)

    def _parts(self, network: PreTrainedModel) -> list[nn.Module]:
        return [*blocks(network, "LastLayers")[-self.n :], *last_norms(network)]

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write the trained blocks alone."""
        save_tensors(dict(self._tensors(network)), folder, self.kind)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the last blocks of a folder."""
        twin = self.attach(network)
        load_tensors(dict(trainable(twin)), folder)
        return twin

    def _tensors(self, network: PreTrainedModel) -> dict[str, torch.Tensor]:
        mine = {id(p) for module in self._parts(network) for p in module.parameters()}
        return {name: p for name, p in network.named_parameters() if id(p) in mine}


def _check_plain(network: PreTrainedModel, who: str) -> None:
    if is_quantized(network):
        raise SettingsError(
            f"{who} can't train quantized weights: they have no gradient. Load the base without quantization, or use "
            f"LoRA, which is QLoRA there"
        )
    if mark_of(network) is not None or configs(network):
        raise SettingsError(f"{who} needs a plain base: merge the adapter first, model.merge(), or tune it on")


def _all(network: PreTrainedModel) -> list[Any]:
    return [*network.parameters(), *network.buffers()]


def _whole_in_float32(network: PreTrainedModel) -> None:
    if network.dtype != torch.float32:
        network.float()
        network.config.dtype = torch.float32
