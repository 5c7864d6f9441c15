"""Ctrl-C during training: the step that is computed is finished, a checkpoint is written, and the training stops."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from tqdm.auto import tqdm
from transformers import TrainerCallback


@final
class StopWithCheckpoint(TrainerCallback):
    """Hears Ctrl-C while it is listening; the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals reach the main thread only; a handler that somebody else has set stays."""
        plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not plain or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hear(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        tqdm.write("stopping behind this step, with a checkpoint; Ctrl-C again stops at once", file=sys.stderr)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = control.should_save or self.asked

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
