"""Generated code in a process of its own: no network, no files but its own, little time, little memory.

    outcome = run("print(sum(range(10)))\\nassert 1 + 1 == 2")
    outcome.passed, outcome.output, outcome.status        # True, "45\\n", "done"

On Linux the program has its own namespaces of users, processes, network and mounts, may write in a folder in memory
alone (Landlock; all else is mounted read-only), can't open a socket (seccomp), and is ended with all that it started,
in whatever session. Where a system lacks one of these, as macOS does, `run` refuses; `isolation="available"` goes on
with what there is (a process group, limits, a temporary folder, a time limit) and says in `Outcome.isolated` what that
was.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from condition.errors import SettingsError
from condition.types import Options, Value

Isolation = Literal["full", "available"]
Status = Literal["done", "failed", "early", "time", "output", "processes", "memory"]
ALL = ("processes", "files", "network")
START_SECONDS = 5.0
"""For the sandbox itself, beside the program's own seconds."""
_LAST = "\n\nimport os as _os, sys as _sys\n_sys.__stdout__.flush()\n_os.write(1, b'{}')\n"
_JAIL = Path(__file__).with_name("jail.py")


class Limits(Options):
    """What a program may use."""

    seconds: float = Field(default=10.0, gt=0)
    memory_bytes: int = Field(default=1 << 30, ge=64 << 20)
    """Of each process, and of all together where the program has its own namespaces."""
    processes: int = Field(default=32, ge=1)
    """At one time; threads count where the system counts them."""
    output_bytes: int = Field(default=1 << 20, ge=0)
    file_bytes: int = Field(default=32 << 20, ge=0)
    """Of all files in the program's folder."""


class Outcome(Value):
    """How a program ended."""

    status: Status
    """`done`: it ran to its last line; `failed`: an exception or a signal; `early`: it left before its last line;
    `memory`: a MemoryError, or too much in several processes; the others name the limit that was passed."""
    output: str
    """What it wrote, standard error included."""
    exit_code: int | None
    seconds: float
    isolated: tuple[str, ...]
    """What was cut off: processes, files, network."""

    @property
    def passed(self) -> bool:
        return self.status == "done"


DEFAULT = Limits()


def run(program: str, limits: Limits = DEFAULT, *, isolation: Isolation = "full") -> Outcome:
    """Run a Python program and end it with all that it started.

    Raises SettingsError where the system can't isolate as asked; the program has not run then.
    """
    if os.name != "posix":
        raise SettingsError("generated code runs on Linux, and in part on macOS: use a Linux machine or container")
    if isolation not in ("full", "available"):
        raise SettingsError(f"isolation={isolation!r}: it is 'full' or 'available'")
    last = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        read, write = os.pipe()
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_JAIL), json.dumps(_wanted(limits, folder, write, isolation))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={"LANG": "C.UTF-8"},
                pass_fds=(write,),
                start_new_session=True,
            )
        finally:
            os.close(write)
        try:
            output, status = _watch(process, program + _LAST.format(last), limits)
        finally:
            _end(process)
        seconds = time.perf_counter() - began
        with os.fdopen(read, "rb") as pipe:
            isolated, ended = _reported(pipe.read())
    if isolation == "full" and set(isolated) != set(ALL):
        missing = ", ".join(name for name in ALL if name not in isolated)
        raise SettingsError(
            f"this system can't isolate {missing} of generated code, so it was not run: use a Linux that allows user "
            "namespaces and Landlock, or isolation='available' for code that you would run by hand"
        )
    text = output.decode(errors="replace")
    code = ended.get("status")
    if "passed" in ended and status in ("done", "time"):
        status = ended["passed"]  # also where the clock was quicker than the ending of them all
    elif status == "done":
        status = _status(code, text, last)
    return Outcome(
        status=status, output=text.replace(last, ""), exit_code=code, seconds=seconds, isolated=tuple(isolated)
    )


@cache
def check_isolation() -> None:
    """Raises SettingsError where this system can't isolate generated code; it is asked once a process."""
    run("pass", Limits(seconds=30))


def _wanted(limits: Limits, folder: str, report: int, isolation: Isolation) -> dict[str, object]:
    python = os.path.realpath(sys.executable)
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, str(Path(python).parent)}
    system = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/System", "/Library")
    return {
        "folder": folder,
        "report": report,
        "isolation": isolation,
        "namespaces": True,
        "python": sys.executable,
        "readable": [*sorted(roots), *system],
        "cpu_seconds": int(limits.seconds) + 1,
        "memory_bytes": limits.memory_bytes,
        "file_bytes": limits.file_bytes,
        "processes": limits.processes,
        "counted_apart": os.getuid() != 0,  # root's processes are not counted; they are watched instead
    }


def _watch(process: subprocess.Popen[bytes], program: str, limits: Limits) -> tuple[bytes, Status]:
    """What the program writes, until it ends or passes a limit."""
    assert process.stdin is not None
    assert process.stdout is not None
    feeder = threading.Thread(target=_feed, args=(process, program.encode(errors="replace")), daemon=True)
    feeder.start()
    output = bytearray()
    deadline = time.monotonic() + limits.seconds + START_SECONDS
    started = None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while process.poll() is None or selector.get_map():
            if started is None and not feeder.is_alive():
                started = time.monotonic()
                deadline = min(deadline, started + limits.seconds + 0.5)
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(output), "time"
            if selector.get_map():
                if not selector.select(min(left, 0.05)):
                    if process.poll() is not None:
                        break  # what holds the pipe open has outlived everything else
                    continue
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    selector.unregister(process.stdout)
                output += part
                if len(output) > limits.output_bytes + 64:
                    return bytes(output[: limits.output_bytes]), "output"
            else:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=min(left, 0.05))
    return bytes(output), "done"


def _feed(process: subprocess.Popen[bytes], program: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it has ended already
        process.stdin.write(program)
        process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.terminate()  # where there are no namespaces it ends what has left its group, too
        process.wait(timeout=1)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            stream.close() if stream else None


def _reported(said: bytes) -> tuple[list[str], dict[str, Any]]:
    lines = [json.loads(line) for line in said.splitlines() if line]
    isolated = next((line for line in lines if isinstance(line, list)), [])
    return isolated, {name: value for line in lines if isinstance(line, dict) for name, value in line.items()}


def _status(code: int | None, text: str, last: str) -> Status:
    if code == 0:
        return "done" if last in text else "early"
    if code == -signal.SIGXCPU:
        return "time"
    return "memory" if "MemoryError" in text.rpartition("Traceback")[2] else "failed"
