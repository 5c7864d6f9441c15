"""Only the named messages are left out."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from condition.noise import hush


def test_only_the_named_messages_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    hush()
    for name, noise in (
        ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community: %s."),
        ("transformers.trainer_utils", "mtime may not be reliable on this filesystem, falling back to …"),
        ("bitsandbytes.autograd._functions", "MatMul8bitLt: inputs will be cast from %s to float16"),
        ("torchao", "Failed to load _C_mxfp8.so: %s"),
    ):
        logger = logging.getLogger(name)
        logger.warning(noise.replace("%s", "x"))
        logger.warning("something else from %s", name)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "something else from bitsandbytes.backends.cpu.ops",
        "something else from transformers.trainer_utils",
        "something else from bitsandbytes.autograd._functions",
        "something else from torchao",
    ]


def test_twice_is_once() -> None:
    hush()
    filters = list(logging.getLogger("bitsandbytes.backends.cpu.ops").filters)
    hush()
    assert logging.getLogger("bitsandbytes.backends.cpu.ops").filters == filters


def test_importing_says_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import condition; condition.load; condition.LoRA; import bitsandbytes, torchao"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr + ran.stdout == ""
