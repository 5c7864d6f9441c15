"""What is trained, shared out among processes by FSDP2 or DeepSpeed.

FSDP2: each process holds a piece of every tensor (torch's DTensor). Zhao et al. 2023, arXiv 2304.11277.
DeepSpeed ZeRO-1 and ZeRO-2: weights stay whole, optimizer and gradients do not. Rajbhandari et al. 2020,
arXiv 1910.02054.

What is shared out stays inside `fit`, and what comes out is a network that was never shared out, with what was learned
gathered into it. Checkpoints hold whole trained tensors, those that one process writes. The optimizer lies there whole
under FSDP2; DeepSpeed writes each process's share of it into a folder of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import DeepSpeedPlugin
from torch import Tensor, nn

from condition.adapters.attach import trainable, trained_state
from condition.adapters.registry import KeptAdapter
from condition.adapters.stack import Stack
from condition.errors import ModelError, SettingsError
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
DEEPSPEED = "deepspeed"
"""The folder of a checkpoint that DeepSpeed itself writes and reads."""
_NOT_IN_FILE = ("optimizer", "scheduler", "checkpoint")
"""What DeepSpeed's own file may not say, as `fit` does."""


def launched_with(engine: str) -> bool:
    """Whether the launcher asked for an engine: "FSDP" or "DEEPSPEED"."""
    return _is_on(f"ACCELERATE_USE_{engine}")


def check_launcher(s: Settings, adapter: KeptAdapter, *, quantized: bool, asks_between: str | None) -> None:
    """Raises SettingsError, before any work, for what the launcher's engine can't do.

    `asks_between` names what asks the network outside of its loss, which pieces can't answer.
    """
    if launched_with("DEEPSPEED"):
        _check_deepspeed(s, adapter)
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


def zero_stage() -> int | None:
    """What DeepSpeed shares out: 1 the optimizer, 2 gradients too, 3 weights too, 0 nothing; None without DeepSpeed.

    Raises SettingsError where what it was told can't be read.
    """
    return int(_deepspeed_told()["zero_optimization"]["stage"]) if launched_with("DEEPSPEED") else None


def _deepspeed_told() -> dict[str, Any]:
    try:
        told: dict[str, Any] = DeepSpeedPlugin().deepspeed_config
    except (OSError, ValueError, AssertionError) as error:
        raise SettingsError(f"what DeepSpeed was told can't be read: {error}. Mend the launch file") from error
    return told


def _check_deepspeed(s: Settings, adapter: KeptAdapter) -> None:
    if zero_stage() == 3:
        raise SettingsError(
            "ZeRO-3 shares out the weights, which fit reads and writes between steps: use FSDP2, which shares them out "
            "too (examples/accelerate/fsdp2.yaml), or zero_stage: 2 (examples/accelerate/deepspeed.yaml)"
        )
    if said := [name for name in _NOT_IN_FILE if name in _deepspeed_told()]:
        raise SettingsError(f"DeepSpeed's file says {', '.join(said)}, which is for fit to say: leave it out there")
    if s.at_once is not None:
        raise SettingsError("under DeepSpeed each piece of a batch would be a step: leave Settings.at_once out")
    if s.optimizer == "adafactor":
        raise SettingsError("optimizer='adafactor' reads rows and columns, and DeepSpeed gives it none: use 'adamw'")
    parts: tuple[Any, ...] = adapter.parts if isinstance(adapter, Stack) else (adapter,)
    between = [p.kind for p in parts if hasattr(p, "before_step") or hasattr(p, "after_step")]
    if between:
        raise SettingsError(
            f"{between[0]!r} reads gradients and writes weights between steps, when DeepSpeed has the one and writes "
            "over the other: start without DeepSpeed (examples/accelerate/gpus.yaml)"
        )
    if adapter.kind == "ladder_side":
        raise SettingsError(
            "DeepSpeed can't send the gates of 'ladder_side', which are single numbers: start without DeepSpeed "
            "(examples/accelerate/gpus.yaml)"
        )


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
    """Write optimizer and schedule: as one process would, or DeepSpeed's engine, in shares.

    All processes have to ask; but for DeepSpeed's shares one of them writes.
    """
    if launched_with("DEEPSPEED"):
        optimizer.save_checkpoint(str(folder), tag=DEEPSPEED, save_latest=False, exclude_frozen_parameters=True)
    else:
        state = optimizer.state_dict()
        tensors = {
            index: {name: _on_cpu(value, writes) for name, value in moments.items()}
            for index, moments in state["state"].items()
        }
        if writes:
            torch.save({**state, "state": tensors}, folder / OPTIMIZER)
    if writes:
        torch.save(scheduler.state_dict(), folder / SCHEDULER)


def load_optimizer(optimizer: Any, scheduler: Any, folder: Path) -> None:
    """Put optimizer and schedule back beside trained tensors that are in place; each process takes its pieces.

    Raises ModelError where DeepSpeed finds none.
    """
    if launched_with("DEEPSPEED"):
        found, _ = optimizer.load_checkpoint(str(folder), tag=DEEPSPEED, custom_load_fn=_leave)
        if found is None:
            raise ModelError(f"DeepSpeed finds nothing of its own in {folder}: start over with Settings(resume=False)")
    else:
        state: Mapping[str, Any] = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        pieces = {
            index: {name: _moment(value, parameters[index]) for name, value in moments.items()}
            for index, moments in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": pieces})
    scheduler.load_state_dict(torch.load(folder / SCHEDULER, map_location="cpu", weights_only=True))


def laid_out(module: nn.Module) -> None:
    """Lay out trained tensors row by row, as both ask for; some adapters begin otherwise."""
    for parameter in trainable(module).values():
        parameter.data = parameter.data.contiguous()


def _leave(src: object, dst: object) -> None:
    """Weights are where they belong; layers of a quantized base would take them amiss."""


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
