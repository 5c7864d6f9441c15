"""Asking another process whether two answers are equal, with a limit on its time."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from contextlib import suppress
from queue import Empty, Queue
from typing import final

START_SECONDS = 60.0


@final
class Equality:
    """Asks a process that is started when it is first needed, and killed and started anew where it takes too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: Queue[str] = Queue()
        atexit.register(self.stop)

    def __call__(self, one: str, other: str, seconds: float) -> bool:
        """False where the two differ, can't be read, or take more than `seconds`."""
        with self._lock:
            process = self._running()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps([one, other]) + "\n")
                process.stdin.flush()
                return self._lines.get(timeout=seconds) == "true\n"
            except (Empty, OSError):
                self.stop()
                return False

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # what was written last may not have been read
                    stream.close() if stream else None
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "condition.evaluation.metrics.symbolic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: Queue[str] = Queue()
        self._lines = lines
        threading.Thread(target=_listen, args=(process, lines), daemon=True).start()
        with suppress(Empty):
            lines.get(timeout=START_SECONDS)
        return process


def _listen(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    assert process.stdout is not None
    with suppress(ValueError, OSError):  # closed when the process is stopped
        for line in process.stdout:
            lines.put(line)
    lines.put("")
