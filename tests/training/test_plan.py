"""The dry run: what steps of known size need, and how many rows fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch

from condition.training import plan as planning
from condition.training.plan import free_bytes, peak_of, planned
from condition.training.rows import Row, Trained
from tests.conftest import ROOT

CPU = torch.device("cpu")
ROWS = [Row((1,) * n, n - 1) for n in (3, 9, 5, 7)]
MB = 1 << 20


def step(rows: Sequence[Trained]) -> None:
    """Holds 64 MB, and 48 MB for each row: blocks that the C library never takes from what was freed before."""
    held = [torch.ones(64 * MB // 4)] + [torch.ones(48 * MB // 4) for _ in rows]
    assert held


@pytest.mark.skipif(
    planning._number("/proc/self/status", "VmHWM") is None, reason="the peak is read from Linux's /proc"
)
def test_what_a_step_needs() -> None:
    # In a process of its own: one that has worked for long holds memory already, and its peak says nothing.
    code = "from tests.training.test_plan import check; check()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def check() -> None:
    assert abs(peak_of(lambda: step(ROWS[:1]), CPU) - 112 * MB) < 16 * MB
    plan = planned(ROWS, step, CPU, most=3, beside=0)
    assert abs(plan.a_row - 48 * MB) < 16 * MB
    assert abs(plan.fixed - 64 * MB) < 24 * MB
    assert plan.at_once == 3


@pytest.mark.parametrize(
    ("free", "most", "at_once"), [(1000, 8, 6), (1000, 4, 4), (200, 8, 1), (100, 8, 1), (10_000, 8, 8)]
)
def test_as_many_rows_as_fit(monkeypatch: pytest.MonkeyPatch, free: int, most: int, at_once: int) -> None:
    """A step takes 100 and 100 a row; 0.8 x 1000 leaves room for seven hundreds, less 100 kept for what comes."""
    steps: list[list[int]] = []

    def peak(work: object, device: object) -> int:
        assert callable(work)
        work()
        return 100 + 100 * len(steps[-1])

    monkeypatch.setattr(planning, "peak_of", peak)
    monkeypatch.setattr(planning, "free_bytes", lambda device: free)
    plan = planned(ROWS, lambda rows: steps.append([len(row.ids) for row in rows]), CPU, most, beside=100)
    assert steps == [[9], [9], [7, 9]]
    assert (plan.at_once, plan.fixed, plan.a_row, plan.free) == (at_once, 100, 100, free - 100)
    assert str(plan).startswith(f"{at_once} rows at once")


def test_memory_is_free() -> None:
    assert free_bytes(CPU) > MB
