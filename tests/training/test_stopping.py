"""Ctrl-C: what it asks of a training, how often, and whom it is left to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from condition.training.stopping import StopWithCheckpoint


@pytest.fixture(autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    """A process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def saves(stop: StopWithCheckpoint, before: bool = False) -> bool:
    control: Any = SimpleNamespace(should_save=before)
    stop.on_step_end(None, None, control)
    return bool(control.should_save)


def test_it_asks_for_a_checkpoint_and_stops_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    stop = StopWithCheckpoint()
    with stop.listening():
        assert not saves(stop)
        assert saves(stop, before=True)  # one that is due anyway
        stop.on_save(None, None, None)
        press()
        assert saves(stop)
        with pytest.raises(KeyboardInterrupt):
            stop.on_save(None, None, None)
    assert "with a checkpoint; Ctrl-C again stops at once" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):  # as before
        press()


def test_the_second_one_stops_at_once() -> None:
    with StopWithCheckpoint().listening():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_somebody_else_hears_stays_theirs() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    stop = StopWithCheckpoint()
    with stop.listening():
        press()
    assert heard == [signal.SIGINT]
    assert not stop.asked


def test_beside_the_main_thread_nothing_is_heard() -> None:
    def listen() -> bool:
        with StopWithCheckpoint().listening():
            return signal.getsignal(signal.SIGINT) is signal.default_int_handler

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(listen).result()
