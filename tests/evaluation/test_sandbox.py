"""Hostile programs: each is stopped, harms nothing outside, and the next one runs as if nothing had been."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from condition.errors import SettingsError
from condition.evaluation import sandbox
from condition.evaluation.sandbox import Limits, run

SMALL = Limits(seconds=1, memory_bytes=192 << 20, processes=12, output_bytes=1 << 16, file_bytes=4 << 20)


def isolates() -> bool:
    try:
        return run("pass").passed
    except SettingsError:
        return False


pytestmark = pytest.mark.skipif(not isolates(), reason="this system can't isolate generated code")

SECRET = "the-parent's-own-secret"
STOPPED: dict[str, tuple[str, str]] = {
    "infinite loop": ("while True: pass", "time"),
    "sleep": ("import time; time.sleep(60)", "time"),
    "waits for input": ("input()", "failed"),
    "loop that ignores signals": (
        "import signal\nfor n in range(1, 64):\n  try: signal.signal(n, signal.SIG_IGN)\n  except Exception: pass\n"
        "while True: pass",
        "time",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "processes"),
    "fork bomb of sessions": ("import os\nwhile True:\n  if os.fork() == 0: os.setsid()", "processes"),
    "processes of other programs": (
        "import subprocess\np = [subprocess.Popen(['/bin/sleep', '60']) for _ in range(40)]",
        "processes",
    ),
    "memory at once": ("x = bytearray(1 << 30)", "memory"),
    "memory bit by bit": ("x = []\nwhile True: x.append(bytearray(1 << 22))", "memory"),
    "memory of a mapping": ("import mmap; m = mmap.mmap(-1, 1 << 30)", "failed"),
    "memory of children": (
        "import os, time\nfor _ in range(6):\n  if os.fork() == 0:\n    x = bytearray(80 << 20); time.sleep(60)\n"
        "time.sleep(60)",
        "memory",
    ),
    "memory in files without a name": ("import os; os.memfd_create('x')", "failed"),
    "memory between processes": ("import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0", "failed"),
    "deep recursion": ("def f(): f()\nf()", "failed"),
    "a gigabyte of output": ("import os\nfor _ in range(1 << 14): os.write(1, b'x' * 65536)", "output"),
    "a gigabyte of errors": ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "output"),
    "output of children": ("import subprocess; subprocess.run(['/usr/bin/yes'])", "output"),
    "large file": ("open('big', 'wb').write(bytes(64 << 20))", "failed"),
    "many files": ("for i in range(100): open(str(i), 'wb').write(bytes(1 << 20))", "failed"),
    "leaves before its tests": ("import os; os._exit(0)\nassert False", "early"),
    "exits in good order": ("import sys; sys.exit(0)", "early"),
    "kills itself": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed"),
    "kills its parent": (
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(os.getppid(), 15)\n1 / 0",
        "failed",
    ),
    "interrupts its parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGINT)\n1 / 0", "failed"),
    "kills everything": ("import os, signal\nos.kill(-1, signal.SIGKILL)", "failed"),
    "kills its group": ("import os, signal\nos.killpg(0, signal.SIGKILL)", "failed"),
    "stops itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "time"),
    "invalid memory": ("import ctypes; ctypes.string_at(0)", "failed"),
    "socket": ("import socket; socket.create_connection(('127.0.0.1', 80), timeout=5)", "failed"),
    "datagram": (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
        "failed",
    ),
    "local socket": ("import socket; socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')", "failed"),
    "web page": ("import urllib.request; urllib.request.urlopen('http://127.0.0.1/')", "failed"),
    "writes outside": ("open('{outside}/made', 'w')", "failed"),
    "writes over a file": ("open('{outside}/kept', 'w').write('gone')", "failed"),
    "deletes outside": ("import os; os.remove('{outside}/kept')", "failed"),
    "changes a file's rights": ("import os; os.chmod('{outside}/kept', 0)", "failed"),
    "changes a file's times": ("import os; os.utime('{outside}/kept', (0, 0))", "failed"),
    "changes a file's owner": ("import os; os.chown('{outside}/kept', 0, 0)", "failed"),
    "adds to a file's attributes": ("import os; os.setxattr('{outside}/kept', 'user.x', b'1')", "failed"),
    "moves a file in": ("import os; os.rename('{outside}/kept', 'mine')", "failed"),
    "reads a file outside": ("print(open('{outside}/kept').read())", "failed"),
    "links to a file outside": ("import os; os.symlink('{outside}/kept', 'l'); print(open('l').read())", "failed"),
    "lists the home folder": ("import os; print(os.listdir(os.path.expanduser('~root')))", "failed"),
    "reads the passwords": ("print(open('/etc/passwd').read())", "failed"),
    "reads the parent's environment": ("import os; print(open(f'/proc/{os.getppid()}/environ').read())", "failed"),
    "its own environment": ("import os; assert 'SECRET' in os.environ", "failed"),
    "reads all processes": (
        "import os\nfor p in os.listdir('/proc'):\n  if p.isdigit(): print(open(f'/proc/{p}/cmdline').read())",
        "failed",
    ),
    "mounts": (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nassert c.mount(b'none', b'.', b'tmpfs', 0, None) == 0",
        "failed",
    ),
    "new namespace of users": ("import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0", "failed"),
    "new namespace": ("import ctypes\nassert ctypes.CDLL(None).unshare(0x20000) == 0", "failed"),
    "other ways to the network": (
        "import ctypes, errno\nfor call in (425, 447):\n"
        "  c = ctypes.CDLL(None, use_errno=True)\n  c.syscall(call, 1, None)\n"
        "  assert ctypes.get_errno() != errno.EACCES, 'refused'",
        "failed",
    ),
    "raises its own limits": ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))", "failed"),
    "traces its parent": ("import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0", "failed"),
    "becomes another user": ("import os; os.setuid(1000)", "failed"),
    "other open files": ("import os\nfor n in range(3, 99): os.read(n, 1)", "failed"),
    "no program": ("this is no program", "failed"),
    "null bytes": ("x = '\0'", "failed"),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "kept").write_text(SECRET)
    (tmp_path / "kept").chmod(0o640)
    return tmp_path


@pytest.mark.parametrize(("program", "status"), STOPPED.values(), ids=STOPPED)
def test_a_hostile_program_is_stopped(
    program: str, status: str, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    began, before = time.monotonic(), (outside / "kept").stat()
    found = run(program.replace("{outside}", str(outside)), SMALL)
    assert (found.status, found.passed) == (status, False), found
    assert SECRET not in found.output
    assert len(found.output) <= SMALL.output_bytes + 64
    assert time.monotonic() - began < 15  # a loaded machine included
    assert (outside / "kept").read_text() == SECRET
    after = (outside / "kept").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert sorted(p.name for p in outside.iterdir()) == ["kept"]
    assert run("print(1 + 1)", SMALL).output == "2\n"


def marked(mark: str) -> list[str]:
    """Processes with a mark in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in command and folder.name != str(os.getpid()):
                found.append(folder.name)
    return found


OUTLIVES = """
import os, subprocess, sys
subprocess.Popen(["/bin/sleep", "{mark}"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["/bin/sleep", "{mark}"])
"""


@pytest.mark.parametrize("rest", ["", "\nwhile True: pass"])
@pytest.mark.parametrize("namespaces", [True, False])
def test_children_end_with_the_program(rest: str, namespaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not namespaces:
        whole = sandbox._wanted
        monkeypatch.setattr(sandbox, "_wanted", lambda *given: {**whole(*given), "namespaces": False})
    mark = f"7777{os.getpid()}.{int(namespaces)}{len(rest)}"
    isolation: Any = "full" if namespaces else "available"
    found = run(OUTLIVES.replace("{mark}", mark) + rest, SMALL, isolation=isolation)
    assert found.status in (("time",) if rest else ("done",))
    assert ("processes" in found.isolated) == namespaces
    assert not marked(mark)


def test_what_can_not_be_isolated_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = sandbox._wanted
    monkeypatch.setattr(sandbox, "_wanted", lambda *given: {**whole(*given), "namespaces": False})
    with pytest.raises(SettingsError, match="can't isolate processes of generated code, so it was not run"):
        run("print(1)")
    said = run("print(1)", isolation="available")
    assert said.output == "1\n"
    assert set(said.isolated) == {"files", "network"}
    (tmp_path / "kept").write_text("x")
    for call in ("chmod('{}', 0)", "utime('{}', (0, 0))", "setxattr('{}', 'user.x', b'1')", "chown('{}', 0, 0)"):
        kept = f"import os; os.{call.format(tmp_path / 'kept')}"
        assert "Permission denied" in run(kept, isolation="available").output


def test_what_a_good_program_may_do() -> None:
    program = """
import json, math, os, re, shutil, subprocess, sys, tempfile, threading, time
with open("own.txt", "w") as file: file.write("kept here")
assert open("own.txt").read() == "kept here"
with tempfile.TemporaryFile() as file: file.write(b"x")
os.chmod("own.txt", 0o600); os.utime("own.txt", (0, 0)); shutil.copy("own.txt", "copy.txt")
big = bytearray(300 << 20)  # which a child shares
if os.fork() == 0: time.sleep(0.3); os._exit(0)
os.wait()
thread = threading.Thread(target=lambda: print("from a thread")); thread.start(); thread.join()
assert subprocess.run([sys.executable, "-c", "print(2)"], capture_output=True).stdout == b"2\\n"
import numpy
print(numpy.arange(3).sum())
"""
    found = run(program, Limits(seconds=20, memory_bytes=512 << 20))
    assert found.passed, found
    assert found.output == "from a thread\n3\n"
    assert found.isolated == ("processes", "files", "network")


def test_the_outcome() -> None:
    found = run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nraise ValueError('why')")
    assert (found.status, found.exit_code) == ("failed", 1)
    assert found.output.startswith("b\n") or found.output.startswith("a\n")
    assert "ValueError: why" in found.output
    assert 0 < found.seconds < 10
    bound = "import atexit; atexit.register(print, 'later')\nprint = None"
    assert run(bound).passed


def test_the_folder_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    run("import os; os.mkdir('d'); os.chmod('d', 0)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keywords", "said"), [({"seconds": 0}, "seconds"), ({"memory": 5}, "Limits has no setting 'memory'")]
)
def test_limits_that_make_no_sense(keywords: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Limits(**keywords)


def test_isolation_has_two_words() -> None:
    with pytest.raises(SettingsError, match="'full' or 'available'"):
        run("pass", isolation="none")  # type: ignore[arg-type]  # the point of the test


def test_the_script_inside_uses_the_standard_library_alone() -> None:
    names = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); print([m for m in sys.modules if m.startswith('condition')])"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", names, str(sandbox._JAIL)], capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"
