"""AdaLoRA: a LoRA that starts wide and keeps the ranks where they matter. Zhang et al. 2023, arXiv 2303.10512.

    W + B diag(e) A        e: [rank], zero at the start; its least important entries are set to zero while it is trained

The layers are PEFT's. Ranks are allocated between optimizer steps, from each number's importance |p dp|, smoothed,
times its uncertainty; the schedule is a share of the run, so nobody has to count steps ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self, final

import torch
from peft import AdaLoraConfig
from peft.tuners.adalora import AdaLoraLayer
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.attach import check_network, marked
from condition.adapters.injected import (
    Targets,
    injected,
    keeps_weights_transposed,
    load_injected,
    not_ours,
    save_injected,
    targets_for,
)
from condition.errors import ContractError
from condition.types import Options

SMOOTHING = 0.85
"""Of importance and of uncertainty, as in the paper."""
BUDGET = "learned_budget"
FILE = f"{BUDGET}.safetensors"
"""What was counted, beside PEFT's files: without it a budget begins anew where the adapter is tuned on."""
PARTS = ("lora_A", "lora_B", "lora_E")
ENDLESS = 1 << 30  # PEFT wants a number of steps; our allocation asks the engine


class AdaLoRA(Options):
    """A low-rank adapter whose ranks are allocated while it is trained: `start` everywhere, `rank` on average."""

    rank: int = Field(default=8, ge=1)
    """Average rank in the end."""
    start: int = Field(default=12, ge=1)
    """Rank of each layer at the start."""
    alpha: float = Field(default=32, gt=0)
    """The change is scaled by alpha / start."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: Targets = "all-linear"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps before ranks are taken away."""
    settled: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps, at the end, in which the ranks stay as they are."""
    every: int = Field(default=10, ge=1)
    """Steps between two allocations."""
    orthogonality: float = Field(default=0.1, ge=0)
    """Weight of the penalty that keeps the factors orthogonal."""
    kind: Literal["adalora"] = "adalora"

    @model_validator(mode="after")
    def _ranks_shrink(self) -> Self:
        if self.rank > self.start:
            raise ValueError(f"rank {self.rank} is more than start {self.start}: ranks are taken away, never added")
        if self.warmup + self.settled >= 1:
            raise ValueError("warmup and settled take all steps: nothing is left to allocate ranks in")
        return self

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network with AdaLoRA layers; the one given is left as it is.

        Raises SettingsError where no layer has a targeted name.
        """
        check_network(network, self)
        config = AdaLoraConfig(
            init_r=self.start,
            target_r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT scales by any number, its annotation says int
            lora_dropout=self.dropout,
            target_modules=targets_for(network, self.targets, "AdaLoRA"),
            exclude_modules=not_ours(network),
            total_step=ENDLESS,
            fan_in_fan_out=keeps_weights_transposed(network),
            task_type="CAUSAL_LM",
        )
        return self._counting(injected(network, config, "AdaLoRA"))

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write a plain PEFT folder, with what was counted beside."""
        save_injected(network, folder, base)
        counted = network.get_submodule(BUDGET).state_dict()
        save_file({name: t.cpu().contiguous().clone() for name, t in counted.items()}, folder / FILE)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the adapter of a PEFT folder, and what was counted where it was kept."""
        twin = self._counting(load_injected(network, folder, AdaLoraConfig))
        if (folder / FILE).is_file():
            try:
                twin.get_submodule(BUDGET).load_state_dict(load_file(folder / FILE))
            except RuntimeError as error:
                raise ContractError(f"{folder / FILE} is not of this adapter on this base: {error}") from error
        return twin

    def _counting(self, network: PreTrainedModel) -> PreTrainedModel:
        network.add_module(BUDGET, _Importance([layer for _, layer in layers(network)]))
        return marked(network, self)

    def before_step(self, network: PreTrainedModel, step: int, total: int) -> None:
        """Add the gradient of the penalty: the mean of |A A' - 1| and |B' B - 1| (Frobenius)."""
        own = [p for _, layer in layers(network) for p in _factors(layer) if p.grad is not None]
        if not own or not self.orthogonality:
            return
        with torch.enable_grad():
            penalty = torch.stack([_skew(p) for p in own]).mean() * self.orthogonality
            slopes = torch.autograd.grad(penalty, own)
        for parameter, slope in zip(own, slopes, strict=True):
            parameter.grad = slope if parameter.grad is None else parameter.grad + slope

    @torch.no_grad()
    def after_step(self, network: PreTrainedModel, step: int, total: int) -> None:
        """Measure importance, and keep as many ranks as this step's budget has. Gradients are still there."""
        start, end = int(self.warmup * total), total - int(self.settled * total)
        importance = network.get_submodule(BUDGET)
        assert isinstance(importance, _Importance)
        own = [layer for _, layer in layers(network)]
        if step <= end:
            importance.measure(own)
        if step >= end or (step > start and step % self.every == 0):
            share = max(0.0, 1 - (step - start) / max(1, end - start))
            budget = len(own) * self.rank + int(len(own) * (self.start - self.rank) * share**3)
            _keep(own, importance.scores(own), budget)


def layers(network: nn.Module) -> Iterator[tuple[str, AdaLoraLayer]]:
    """The layers that ranks are allocated to, by name."""
    return ((name, module) for name, module in network.named_modules() if isinstance(module, AdaLoraLayer))


def ranks(network: nn.Module) -> dict[str, int]:
    """The rank that each layer has left."""
    return {name: int((layer.lora_E["default"] != 0).sum()) for name, layer in layers(network)}


def adalora_from(config: AdaLoraConfig) -> AdaLoRA:
    """The adapter of a PEFT configuration."""
    targets = config.target_modules
    return AdaLoRA(
        rank=min(config.target_r, config.init_r),
        start=config.init_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=targets if isinstance(targets, str) else sorted(targets or ()),
    )


@final
class _Importance(nn.Module):
    """Smoothed importance and uncertainty of each number, as buffers: a resumed run goes on with them."""

    def __init__(self, own: list[AdaLoraLayer]) -> None:
        super().__init__()
        for number, layer in enumerate(own):
            for part in PARTS:
                shape = _part(layer, part)
                for what in ("importance", "uncertainty"):
                    self.register_buffer(f"{what}_{number}_{part}", torch.zeros_like(shape))

    def measure(self, own: list[AdaLoraLayer]) -> None:
        """Take in the gradients of a step."""
        for number, layer in enumerate(own):
            for part in PARTS:
                parameter = _part(layer, part)
                if parameter.grad is None:
                    continue
                now = (parameter * parameter.grad).abs()
                smooth, doubt = self._of(number, part)
                smooth.mul_(SMOOTHING).add_(now, alpha=1 - SMOOTHING)
                doubt.mul_(SMOOTHING).add_((now - smooth).abs(), alpha=1 - SMOOTHING)

    def scores(self, own: list[AdaLoraLayer]) -> list[Tensor]:
        """Of each layer's ranks `[start]`."""
        found = []
        for number in range(len(own)):
            a, b, e = (torch.mul(*self._of(number, part)) for part in PARTS)
            found.append(e[:, 0] + a.mean(1) + b.mean(0))
        return found

    def _of(self, number: int, part: str) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"importance_{number}_{part}"), self.get_buffer(f"uncertainty_{number}_{part}")


def _keep(own: list[AdaLoraLayer], scores: list[Tensor], budget: int) -> None:
    """Set all entries but the most important to zero; of equal ones the first are kept."""
    everything = torch.cat(scores)
    if budget >= len(everything):
        return
    kept = torch.zeros_like(everything, dtype=torch.bool)
    kept[everything.sort(descending=True, stable=True).indices[:budget]] = True
    for layer, mask in zip(own, kept.split([len(s) for s in scores]), strict=True):
        _part(layer, "lora_E").data.masked_fill_(~mask[:, None], 0.0)


def _factors(layer: AdaLoraLayer) -> tuple[nn.Parameter, nn.Parameter]:
    return _part(layer, "lora_A"), _part(layer, "lora_B")


def _part(layer: AdaLoraLayer, part: str) -> nn.Parameter:
    parameter = getattr(layer, part)["default"]
    assert isinstance(parameter, nn.Parameter)
    return parameter


def _skew(factor: Tensor) -> Tensor:
    """How far the rank's vectors of `[rank, in]` or `[out, rank]` are from orthonormal."""
    product = factor @ factor.T if factor.shape[0] <= factor.shape[1] else factor.T @ factor
    distance: Tensor = torch.linalg.matrix_norm(product - torch.eye(len(product), device=factor.device))
    return distance
