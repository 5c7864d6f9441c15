"""What a machine can do, and what is said where it can't."""

from __future__ import annotations

import pytest
import torch

from condition.errors import SettingsError
from condition.models.device import has_bf16, resolve_device, resolve_dtype

CPU = torch.device("cpu")


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


def test_a_device_is_a_device() -> None:
    assert resolve_device(CPU) == CPU
    assert resolve_device("cpu") == CPU


def test_an_unknown_device() -> None:
    with pytest.raises(SettingsError, match="unknown device 'gpu': use auto, cpu, cuda or cuda:0"):
        resolve_device("gpu")


def test_cuda_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="shows no CUDA; use device='auto' or 'cpu'"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({}, False),
    ],
)
def test_bf16_by_the_processors_own_word(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bf16(CPU) is expected
    assert has_bf16(torch.device("meta")) is False


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", "auto"),
        ("bf16", "cpu", torch.bfloat16),
        ("float16", "cpu", torch.float16),
        (torch.float64, "cpu", torch.float64),
    ],
)
def test_dtypes(dtype: str | torch.dtype, device: str, expected: object) -> None:
    assert resolve_dtype(dtype, torch.device(device)) == expected


def test_an_unknown_dtype() -> None:
    with pytest.raises(SettingsError, match="unknown dtype 'int3': use auto, bfloat16, float16, float32"):
        resolve_dtype("int3", CPU)
