"""Bottleneck adapters: a narrow two-layer network behind, or beside, sublayers of each block.

    houlsby    behind attention and behind the feed-forward      Houlsby et al. 2019, arXiv 1902.00751
    pfeiffer   behind the feed-forward only                      Pfeiffer et al. 2020, arXiv 2005.00247
    parallel   beside the feed-forward, on its input             He et al. 2021, arXiv 2110.04366

    y ──► down ──► gelu ──► up ─ × scale ──► + y       down: [size, width]   up: [width, size], zero at the start

Linear layers inside a block are untouched, so any base will do, quantized too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast, final

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.attach import check_network, freeze, marked, shared_copy
from condition.adapters.blocks import attention_of, blocks, feed_forward_of, width
from condition.adapters.learned import load_tensors, save_tensors, tensors_under
from condition.errors import SettingsError
from condition.types import Options

PART = "learned_bottleneck"
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(Options):
    """Narrow networks of `size` hidden numbers in each block; only they are trained."""

    size: int = Field(default=64, ge=1)
    placement: Literal["houlsby", "pfeiffer", "parallel"] = "houlsby"
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    scale: float = Field(default=1.0, gt=0)
    """He et al. take 4 for the parallel placement."""
    kind: Literal["bottleneck"] = "bottleneck"

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network with bottlenecks; the one given is left as it is.

        Raises SettingsError where its blocks have no sublayers to put them behind, or have bottlenecks already.
        """
        check_network(network, self)
        twin = shared_copy(network)
        freeze(twin)
        put_bottlenecks(twin, self)
        return marked(twin, self)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write the bottlenecks' tensors."""
        save_tensors(tensors_under(network, PART), folder, self.kind)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the bottlenecks of a folder."""
        twin = self.attach(network)
        load_tensors(tensors_under(twin, PART), folder)
        return twin


def put_bottlenecks(network: PreTrainedModel, options: Bottleneck, *, gated: bool = False) -> None:
    """Put bottlenecks into a network itself; `gated` ones open token by token."""
    inside = width(network)
    for host in _hosts(network, options):
        if hasattr(host, PART):
            raise SettingsError("Bottleneck can't lie over another Bottleneck: tune that one on, or fit the base")
        host.add_module(PART, _Narrow(inside, options, gated).to(network.device))
        host.register_forward_hook(_beside if options.placement == "parallel" else _behind)


def _hosts(network: PreTrainedModel, options: Bottleneck) -> list[nn.Module]:
    found: list[nn.Module | None] = []
    for block in blocks(network, "Bottleneck"):
        found += [attention_of(block)] if options.placement == "houlsby" else []
        found.append(feed_forward_of(block))
    hosts = [host for host in found if host is not None]
    if len(hosts) < len(found):
        raise SettingsError(
            f"Bottleneck(placement={options.placement!r}) finds no attention or feed-forward in some blocks of "
            f"{type(network).__name__}: use LoRA there"
        )
    return hosts


@final
class _Narrow(nn.Module):
    """What is added to a sublayer's output."""

    def __init__(self, inside: int, options: Bottleneck, gated: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inside, options.size)
        self.act = ACTIVATIONS[options.activation]()
        self.up = nn.Linear(options.size, inside)
        self.gate = nn.Linear(inside, 1) if gated else None
        self.scale = options.scale
        self.off = False
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width], in the input's type; computed in fp32 unless autocast says otherwise."""
        wide = x.to(self.down.weight.dtype)
        change = self.up(self.act(self.down(wide))) * self.scale
        if self.gate is not None:
            change = change * torch.sigmoid(self.gate(wide))
        return cast(Tensor, change).to(x.dtype)


def _behind(host: nn.Module, given: Any, output: Any) -> Any:
    narrow = cast(_Narrow, getattr(host, PART))
    if narrow.off:
        return output
    if isinstance(output, tuple):
        return (output[0] + narrow(output[0]), *output[1:])
    return output + narrow(output)


def _beside(host: nn.Module, given: Any, output: Any) -> Any:
    narrow = cast(_Narrow, getattr(host, PART))
    if narrow.off:
        return output
    if isinstance(output, tuple):
        return (output[0] + narrow(given[0]), *output[1:])
    return output + narrow(given[0])
