"""The sandbox's tests are left out where a system can't isolate: it must not be for a mistake of ours that it can't."""

from __future__ import annotations

import subprocess
import sys

import pytest

from condition.evaluation.sandbox import ALL, run

ABLE = """
import ctypes
library = ctypes.CDLL(None, use_errno=True)
assert library.syscall(444, None, ctypes.c_size_t(0), 1) >= 1, "Landlock"
assert library.unshare(0x20000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000) == 0, "namespaces"
"""


def test_a_system_that_has_what_it_takes_isolates() -> None:
    able = subprocess.run([sys.executable, "-I", "-c", ABLE], capture_output=True, text=True, check=False)
    if able.returncode:
        pytest.skip(f"this system lacks {able.stderr.strip().rpartition(' ')[2]}")
    found = run("print(1)")
    assert (found.passed, found.isolated, found.output) == (True, ALL, "1\n")
