"""Only the named messages are left out, and bars come back."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

from condition.adapters.quiet import hush, no_weight_bars


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


def test_bars_of_weights_are_off_inside_and_downloads_stay() -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        with no_weight_bars():
            assert not transformers_logging.is_progress_bar_enabled()
            assert not are_progress_bars_disabled()
        assert transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        with no_weight_bars():
            assert not transformers_logging.is_progress_bar_enabled()
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()


def test_of_threads_the_last_one_switches_bars_on_again() -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        first, second = no_weight_bars(), no_weight_bars()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not transformers_logging.is_progress_bar_enabled()
        second.__exit__(None, None, None)
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()


def test_importing_says_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import condition; condition.LoRA; condition.load; import bitsandbytes"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr + ran.stdout == ""
