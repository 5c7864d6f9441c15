"""Weights shared out among processes by FSDP2: each holds a piece of every tensor (torch's DTensor) while it trains.

What is shared out stays inside `fit`. Checkpoints hold whole tensors, those that one process writes, and what comes out
is a network that was never shared out, with what was learned gathered into it.
Zhao et al. 2023, arXiv 2304.11277.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from condition.adapters.attach import trained_state
from condition.adapters.registry import KeptAdapter
from condition.errors import SettingsError
from condition.training.settings import Settings

OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
ADAPTERS = ("lora", "full")
"""Kinds that are trained in pieces; others have steps or buffers of their own."""
_OFF = {
    "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "fsdp_cpu_ram_efficient_loading",
    "FSDP_ACTIVATION_CHECKPOINTING": "fsdp_activation_checkpointing",
}
"""What a launch file may not ask for, by the name that accelerate hands it on under."""


def launched_with(engine: str) -> bool:
    """Whether the launcher asked for an engine: "FSDP" or "DEEPSPEED"."""
    return _is_on(f"ACCELERATE_USE_{engine}")


def check_launcher(s: Settings, adapter: KeptAdapter, *, quantized: bool, asks_between: str | None) -> None:
    """Raises SettingsError, before any work, for what the launcher's engine can't do.

    `asks_between` names what asks the network outside of its loss, which pieces can't answer.
    """
    if launched_with("DEEPSPEED") and s.at_once is not None:
        raise SettingsError("under DeepSpeed each piece of a batch would be a step: leave Settings.at_once out")
    if not launched_with("FSDP"):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise SettingsError(
            "of FSDP only the second version is known: fsdp_version: 2 (examples/accelerate/fsdp2.yaml)"
        )
    if wrong := [told for name, told in _OFF.items() if _is_on(name)]:
        raise SettingsError(f"{', '.join(wrong)} does not go with fit: set it to false in the launch file")
    if adapter.kind not in ADAPTERS:
        raise SettingsError(f"FSDP2 trains LoRA and FullFineTuning, not {adapter.kind!r}: start without FSDP2")
    if quantized or s.quantization_aware is not None:
        raise SettingsError("FSDP2 shares out whole weights, not quantized or rounded ones: start without FSDP2")
    if s.at_once is not None:
        raise SettingsError("FSDP2 gathers all weights for each piece of a batch: use accumulation, not at_once")
    if s.optimizer not in ("adamw", "sgd"):
        raise SettingsError(f"optimizer={s.optimizer!r} needs whole tensors: use 'adamw' or 'sgd' with FSDP2")
    if asks_between is not None:
        raise SettingsError(f"{asks_between} asks the network between its steps, when FSDP2 has shared it out")


def whole(tensor: Tensor) -> Tensor:
    """A tensor, gathered where it is shared out. All processes have to ask, and in the same order."""
    found: Tensor = tensor.full_tensor() if _is_piece(tensor) else tensor  # type: ignore[attr-defined]
    return found


def put(own: Tensor, saved: Tensor) -> None:
    """Overwrite a tensor with a whole one, of which a piece is taken where it is shared out."""
    own.detach().copy_(_like(saved, own))


def gathered(shared_out: nn.Module, plain: nn.Module) -> None:
    """Put what was learned in pieces into a network that is whole. All processes have to ask."""
    reshard(shared_out)
    learned = trained_state(shared_out)
    with torch.no_grad():
        for name, tensor in trained_state(plain).items():
            put(tensor, whole(learned[name].detach()))


def reshard(module: nn.Module) -> None:
    """Let go of weights that were gathered for a forward pass without a backward one: the pieces are what counts."""
    for part in module.modules():
        if hasattr(part, "reshard"):
            cast(Any, part).reshard()


def save_optimizer(optimizer: Any, scheduler: Any, folder: Path, *, writes: bool) -> None:
    """Write optimizer and schedule as one process would. All processes have to ask; one of them writes."""
    state = optimizer.state_dict()
    tensors = {
        index: {name: _on_cpu(value, writes) for name, value in moments.items()}
        for index, moments in state["state"].items()
    }
    if writes:
        torch.save({**state, "state": tensors}, folder / OPTIMIZER)
        torch.save(scheduler.state_dict(), folder / SCHEDULER)


def load_optimizer(optimizer: Any, scheduler: Any, folder: Path) -> None:
    """Put optimizer and schedule back; each process takes its pieces."""
    state: Mapping[str, Any] = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    pieces = {
        index: {name: _moment(value, parameters[index]) for name, value in moments.items()}
        for index, moments in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": pieces})
    scheduler.load_state_dict(torch.load(folder / SCHEDULER, map_location="cpu", weights_only=True))


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def _is_piece(tensor: Tensor) -> bool:
    """Whether a tensor is shared out; asked by what it can do, as to import its class takes a second."""
    return hasattr(tensor, "full_tensor")


def _on_cpu(value: Any, wanted: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    found = whole(value)
    return found.cpu() if wanted else None


def _moment(value: Any, parameter: Tensor) -> Any:
    """What is as large as its parameter is shared out like it; a number of steps is not."""
    fits = isinstance(value, Tensor) and value.shape == parameter.shape
    return _like(value, parameter) if fits else value


def _like(saved: Tensor, own: Any) -> Tensor:
    if not _is_piece(own):
        return saved
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - takes a second, for those who need it

    # Each process has the whole tensor: nothing is sent.
    return distribute_tensor(saved.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
