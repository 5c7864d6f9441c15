"""What this machine can do."""

from __future__ import annotations

import torch

from condition.errors import SettingsError


def resolve_device(device: str | torch.device) -> torch.device:
    """`auto` is the GPU where there is one. Raises SettingsError for a device that is not there."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise SettingsError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:0") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"device {device!r} asked for, but this machine shows no CUDA; use device='auto' or 'cpu'")
    return found


def has_bf16(device: torch.device) -> bool:
    """True where the processor multiplies bf16 itself; emulated bf16 is many times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(
        capabilities.get("avx512_bf16")
        or capabilities.get("amx_bf16")
        or capabilities.get("arm_bf16")
        or capabilities.get("bf16")
    )


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype | str:
    """`auto` is fp32 on the CPU and the checkpoint's own type on a GPU."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    names = {
        "float32": "float32",
        "fp32": "float32",
        "bfloat16": "bfloat16",
        "bf16": "bfloat16",
        "float16": "float16",
        "fp16": "float16",
    }
    if dtype not in names:
        raise SettingsError(f"unknown dtype {dtype!r}: use auto, {', '.join(sorted(set(names.values())))}")
    found = getattr(torch, names[dtype])
    assert isinstance(found, torch.dtype)
    return found
