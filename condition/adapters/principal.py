"""LoRA that begins in the directions that a weight already has, over a base that keeps every bit.

    pissa   s B0 A0 = the largest singular values of W with their vectors     Meng et al. 2024, arXiv 2404.02948
    olora   B0 A0 = the first columns of Q and rows of R, W = Q R             Büyükakyüz 2024, arXiv 2406.01775

The papers train A and B beside a base from which the start is taken away, W - s B0 A0. Here the layer takes it away:

    y = W x + s (B A - B0 A0) x = W x + s (dB A + B0 dA) x         A = A0 + dA, B = B0 + dB

which is the same function of the same numbers, with the same gradients. dA and dB are what is trained. They are zero at
the start, so a new adapter changes nothing, switched off it is the base, and a small step is not rounded away beside a
large A0. The change is a plain LoRA of twice the rank, [dB, B0] [A; dA], and is computed and saved as that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, final

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.attach import shared_copy
from condition.adapters.injected import configs
from condition.errors import ContractError, SettingsError

STARTS = ("pissa", "olora")
FILE = "start.safetensors"
"""A0 by layer, so that a loaded adapter is the saved one to the bit and can be tuned on."""
BESIDE = 8
"""Singular vectors looked for beside those that are kept: the more, the nearer are those."""
ROUNDS = 8
"""Of the search for singular vectors. Halko et al. 2009, arXiv 0909.4061."""
_NAME = "default"


def begin(network: PreTrainedModel, start: str) -> PreTrainedModel:
    """The network, whose new LoRA layers begin at the directions of their weights.

    Raises SettingsError for a layer that is no product, and for a rank that a weight does not have.
    """
    for name, layer in _layers(network):
        if _NAME not in layer.lora_A:
            raise SettingsError(
                f"LoRA.initialisation = {start!r} is for linear layers, and {name} is none: leave one of them out"
            )
        rank, weight = int(layer.r[_NAME]), _weight(layer)
        if rank > min(weight.shape):
            raise SettingsError(f"LoRA.rank = {rank} is more than {name} has: {min(weight.shape)} directions")
        scale = float(layer.scaling[_NAME])
        a, b = (_principal if start == "pissa" else _orthogonal)(weight, rank, scale)
        _put(layer, torch.zeros_like(a), torch.zeros_like(b), a, b)
    _say(_config(network), start)
    return network


def as_lora(network: PreTrainedModel) -> PreTrainedModel:
    """The same network with plain LoRA layers of twice the rank."""
    twin = shared_copy(network)
    config = _config(twin)
    for _, layer in _layers(twin):
        for factors in (layer.lora_A, layer.lora_B):
            weight = cast(Tensor, factors[_NAME].weight).detach()
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            plain.weight = nn.Parameter(weight)
            factors[_NAME] = plain
    alpha = _scale(config) * 2 * config.r
    config.r, config.use_rslora, config.init_lora_weights = 2 * config.r, False, True
    config.lora_alpha = alpha  # type: ignore[assignment]  # PEFT scales by any number, its annotation says int
    return twin


def save_start(network: PreTrainedModel, folder: Path) -> None:
    """Write where the layers began."""
    starts = {name: _factor(layer.lora_A).learned_start for name, layer in _layers(network)}
    save_file({name: cast(Tensor, t).cpu().contiguous() for name, t in starts.items()}, folder / FILE)


def from_lora(network: PreTrainedModel, folder: Path, like: LoraConfig, start: str) -> PreTrainedModel:
    """The network, whose plain LoRA layers of twice the rank are again what they were saved from.

    `like` tells rank and scale. Raises ContractError where the folder's start is not of these layers.
    """
    starts, layers = load_file(folder / FILE), dict(_layers(network))
    if other := sorted(starts.keys() ^ layers.keys()):
        raise ContractError(f"{folder / FILE} is not of this adapter on this base: {other[0]} is only in one of them")
    for name, layer in layers.items():
        a, b = (cast(Tensor, part[_NAME].weight).detach() for part in (layer.lora_A, layer.lora_B))
        if a.shape[0] != 2 * like.r or starts[name].shape != a[: like.r].shape:
            raise ContractError(f"{folder / FILE} is not of this adapter on this base: {name} is of another size")
        _put(layer, a[like.r :], b[:, : like.r], starts[name].to(a), b[:, like.r :])
        layer.r[_NAME], layer.lora_alpha[_NAME], layer.scaling[_NAME] = like.r, like.lora_alpha, _scale(like)
    config = _config(network)
    config.r, config.lora_alpha, config.use_rslora = like.r, like.lora_alpha, like.use_rslora
    _say(config, start)
    return network


@final
class _Moved(nn.Module):
    """A factor that begins somewhere: what is trained is how far it has moved."""

    def __init__(self, moved: Tensor, start: Tensor, *, down: bool) -> None:
        super().__init__()
        self.own = nn.Parameter(moved.detach().clone())
        self.register_buffer("learned_start", start.detach().clone())
        self.down = down
        self.bias = None

    @property
    def weight(self) -> Tensor:
        """[A; dA] `[2 rank, in]` where it is the factor next to the input, else [dB, B0] `[out, 2 rank]`."""
        start = cast(Tensor, self.learned_start)
        return torch.cat([start + self.own, self.own]) if self.down else torch.cat([self.own, start], 1)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., 2 rank], or [..., 2 rank] -> [..., out]."""
        return nn.functional.linear(x, self.weight)


def _principal(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A0 `[rank, in]` and B0 `[out, rank]` with `scale B0 A0` the largest singular values of a weight `[out, in]`."""
    wide = min(rank + BESIDE, *weight.shape)
    u, values, v = torch.svd_lowrank(weight, q=wide, niter=ROUNDS)
    root = (values[:rank] / scale).sqrt()
    return root[:, None] * v[:, :rank].T, u[:, :rank] * root


def _orthogonal(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A0 `[rank, in]` and B0 `[out, rank]`, of which the columns are orthonormal."""
    q, r = torch.linalg.qr(weight)
    return r[:rank], q[:, :rank]


def _put(layer: LoraLayer, a: Tensor, b: Tensor, start_a: Tensor, start_b: Tensor) -> None:
    layer.lora_A[_NAME] = _Moved(a, start_a, down=True)
    layer.lora_B[_NAME] = _Moved(b, start_b, down=False)


def _weight(layer: LoraLayer) -> Tensor:
    """What a layer stands on, `[out, in]` in fp32; a quantized one as the numbers that it stands for."""
    base = layer.get_base_layer()
    held = base.weight
    weight = cast(Tensor, dequantize_module_weight(base)).detach().float()
    base.weight = held  # bitsandbytes puts another tensor there
    return weight.T if getattr(layer, "fan_in_fan_out", False) else weight


def _layers(network: PreTrainedModel) -> Iterator[tuple[str, LoraLayer]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer))


def _factor(factors: nn.ModuleDict) -> _Moved:
    return cast(_Moved, factors[_NAME])


def _scale(config: LoraConfig) -> float:
    return float(config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r))


def _say(config: Any, start: str) -> None:
    """By PEFT's own names, which its annotation lists one by one."""
    config.init_lora_weights = start


def _config(network: PreTrainedModel) -> LoraConfig:
    (config,) = configs(network)
    return cast(LoraConfig, config)
