"""The inside of the sandbox: a script of the standard library alone, which locks itself up and then runs a program.

    python -I -S jail.py '{"folder": …}'          # the program comes on standard input

    supervisor     new user, process, network and mount namespaces, where the system has them
      └ first      process 1 of the namespace: when it ends, the kernel ends every process left behind
          └ program    limits, no capabilities, no new privileges, Landlock on files, seccomp on sockets; then exec

Without namespaces the supervisor adopts orphans and ends them itself. What could be isolated is written to descriptor
`report` as one line of JSON, then how the program ended as another.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
import time
from typing import Any

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
PRIVATE, NO_SETUID, NO_DEVICES = 0x40000 | 0x4000, 2, 4
SET_PARENT_DEATH, DROP_CAPABILITY, NO_NEW_PRIVILEGES, SECCOMP, ADOPT_ORPHANS = 1, 24, 38, 22, 36
LANDLOCK_FILE_RIGHTS = 1 | 2 | 4 | 1 << 14 | 1 << 15
LANDLOCK_READ = 1 | 4 | 8
LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
ARCHITECTURES = {"x86_64": (0xC000003E, 41, 101, 319, 29, 68), "aarch64": (0xC00000B7, 198, 117, 279, 194, 186)}
"""What seccomp calls a machine, and its numbers of socket and ptrace, and of memory that no limit counts: memfd_create,
shmget and msgget."""
EVERYWHERE = (425, 447)
"""io_uring, which can open sockets too, and memfd_secret."""
CHANGES = {
    "x86_64": (90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280, 452, 463, 466),
    "aarch64": (5, 6, 7, 14, 15, 16, 52, 53, 54, 55, 88, 452, 463, 466),
}
"""Calls that change a file's rights, owner, times or attributes, which Landlock lets pass."""
SET_MOUNTS, BELOW, READ_ONLY = 442, 0x8000, 1
REFUSED, ALLOWED, KILLED = 0x50000 | 13, 0x7FFF0000, 0x80000000
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
WATCH_SECONDS, LOOKS = 0.01, 5
"""So often too much memory has to be seen: a child that is about to run another program counts its parent's again."""


class Kernel:
    """Calls of the C library that Python has no names for."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: object) -> int:
        """The result; raises OSError where it is negative."""
        found = int(getattr(self.library, name)(*arguments))
        if found < 0:
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
        return found


def main() -> None:
    """Run the program that comes on standard input, as the first argument says."""
    wanted = json.loads(sys.argv[1])
    kernel = Kernel() if sys.platform == "linux" else None
    program = sys.stdin.buffer.read()
    wanted["niceness"] = os.nice(0)
    with contextlib.suppress(OSError):  # who may: a bomb of processes leaves its watcher nothing otherwise
        os.nice(-10)
    apart = kernel is not None and wanted["namespaces"] and namespaces(kernel)
    if kernel and not apart:
        attempt(kernel, "prctl", ADOPT_ORPHANS, 1, 0, 0, 0)
        signal.signal(signal.SIGTERM, give_up)
    first = os.fork()
    if first == 0:
        if kernel:
            attempt(kernel, "prctl", SET_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        inside(wanted, kernel, program, apart)
    if apart:  # asked to end: only when all have ended has the first one
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
    _, status = os.waitpid(first, 0)
    if not apart:
        end_orphans()
    os._exit(0 if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else 1)


def namespaces(kernel: Kernel) -> bool:
    """Whether this process now has namespaces of its own."""
    user, group = os.getuid(), os.getgid()
    try:
        kernel.call("unshare", NEW_USER | NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK | NEW_IPC)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        return False
    return True


def inside(wanted: dict[str, Any], kernel: Kernel | None, program: bytes, apart: bool) -> None:
    """The first process of the namespace: starts the program, waits for it, says how it ended."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of a namespace's first process, what has no handler is ignored
    folder = wanted["folder"]
    counts, fixed = mounts(kernel, folder, wanted["file_bytes"]) if kernel is not None and apart else (False, False)
    with open(os.path.join(folder, "program.py"), "wb") as file:
        file.write(program)
    report = wanted["report"]
    os.set_inheritable(report, False)
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        run(wanted, kernel, apart, fixed, tell)
    os.close(tell)
    for name in (0, 1, 2):
        os.close(name)
    isolated = b""
    while part := os.read(ready, 4096):
        isolated += part
    os.write(report, isolated or b"[]\n")
    status = wait(child, wanted["processes"] if counts else None, wanted["memory_bytes"], report)
    os.write(report, json.dumps({"status": status}).encode() + b"\n")
    os._exit(0)


def wait(child: int, most: int | None, memory: int, report: int) -> int:
    """The program's status. Too many processes, or with too much memory together, are ended, and reported at once: to
    end them all may take long."""
    reported, heavy = False, 0
    while True:
        try:
            done, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return -signal.SIGKILL
        if done == child:
            return os.waitstatus_to_exitcode(status)
        if done:
            continue
        if most is not None:
            running = [name for name in os.listdir("/proc") if name.isdigit()]
            crowded = len(running) > most + 1
            # Not of a crowd: while each is looked at, a bomb of processes doubles.
            heavy = heavy + 1 if 2 < len(running) <= most + 1 and occupy(running, memory) else 0
            if crowded or heavy >= LOOKS:
                if not reported:
                    os.write(report, b'{"passed": "%s"}\n' % (b"processes" if crowded else b"memory"))
                reported = True
                os.kill(-1, signal.SIGKILL)
        time.sleep(WATCH_SECONDS)


def occupy(running: list[str], most: int) -> bool:
    """Whether processes have more bytes in memory together: by a quick sum, then counting shared pages once."""
    for kind, file in (("VmRSS:", "status"), ("Pss:", "smaps_rollup")):
        total = 0
        for name in running:
            with contextlib.suppress(OSError), open(f"/proc/{name}/{file}") as lines:  # it may have ended
                total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))
        if total <= most:
            return False
    return True


def mounts(kernel: Kernel, folder: str, size: int) -> tuple[bool, bool]:
    """A folder in memory with a limit on its size, a /proc of its own, and all else read-only, so that no file's rights
    and times can be changed either. Whether there is a /proc, and whether all else is."""
    attempt(kernel, "mount", b"none", b"/", None, PRIVATE, None)
    options = f"size={size},mode=700".encode()
    own = attempt(kernel, "mount", b"tmpfs", folder.encode(), b"tmpfs", NO_SETUID | NO_DEVICES, options)
    os.chdir(folder)  # the new one
    counts = attempt(kernel, "mount", b"proc", b"/proc", b"proc", NO_SETUID | NO_DEVICES, None)
    if counts:  # in namespaces of their own, processes would have rights that these have lost
        with contextlib.suppress(OSError), open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    fixed = own and set_mounts(kernel, "/", BELOW, (READ_ONLY, 0)) and set_mounts(kernel, folder, 0, (0, READ_ONLY))
    return counts, fixed


def set_mounts(kernel: Kernel, path: str, below: int, change: tuple[int, int]) -> bool:
    """Set and clear attributes of a mount, or of all `below` it. Linux 5.12 on."""
    fields = struct.pack("=QQQQ", *change, 0, 0)
    return attempt(kernel, "syscall", SET_MOUNTS, -100, path.encode(), below, fields, ctypes.c_size_t(32))


def run(wanted: dict[str, Any], kernel: Kernel | None, apart: bool, fixed: bool, tell: int) -> None:
    """Limits, then the program in place of this process."""
    folder = wanted["folder"]
    os.chdir(folder)
    os.setpriority(os.PRIO_PROCESS, 0, wanted["niceness"])
    limits(wanted)
    files = sockets = False
    if kernel:
        for capability in range(64):
            attempt(kernel, "prctl", DROP_CAPABILITY, capability, 0, 0, 0)
        attempt(kernel, "prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        files = landlock(kernel, folder, wanted["readable"])
        sockets = seccomp(kernel, fixed)
        files = files and (fixed or sockets)
    isolated = ["processes"] * apart + ["files"] * files + ["network"] * (apart or sockets)
    os.write(tell, json.dumps(isolated).encode() + b"\n")
    os.close(tell)
    if wanted["isolation"] == "full" and len(isolated) < 3:
        os._exit(1)
    os.dup2(1, 2)
    python = wanted["python"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    os.execve(python, [python, "-I", "-B", "program.py"], environment)


def limits(wanted: dict[str, Any]) -> None:
    """What the system itself holds a process to."""
    seconds, memory, size = (wanted[name] for name in ("cpu_seconds", "memory_bytes", "file_bytes"))
    pairs = [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NPROC, wanted["processes"] if wanted["counted_apart"] else -1),
    ]
    for kind, most in pairs:
        if most >= 0:
            try:
                resource.setrlimit(kind, (most, most))
            except (ValueError, OSError):  # macOS knows no limit on memory
                continue


def landlock(kernel: Kernel, folder: str, readable: list[str]) -> bool:
    """Write in `folder` alone, read there, in Python's own folders and in the system's programs. Linux 5.13 on."""
    try:
        version = kernel.call("syscall", 444, None, ctypes.c_size_t(0), 1)
        handled = (1 << LANDLOCK_RIGHTS.get(version, 16)) - 1
        fields = struct.pack("=QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        rules = kernel.call("syscall", 444, fields, ctypes.c_size_t(size), 0)
        for path, rights in [
            (folder, handled),
            *((p, LANDLOCK_READ) for p in readable),
            *((d, 2 | 4) for d in DEVICES),
        ]:
            if not os.path.exists(path):
                continue
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = rights & handled & (-1 if os.path.isdir(path) else LANDLOCK_FILE_RIGHTS)
            kernel.call("syscall", 445, rules, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
        kernel.call("syscall", 446, rules, 0)
        os.close(rules)
    except OSError:
        return False
    return True


def seccomp(kernel: Kernel, fixed: bool) -> bool:
    """No sockets, no tracing of other processes, no memory that no limit counts and, where files are not `fixed`
    already, no change of what Landlock does not guard: a filter of system calls."""
    known = ARCHITECTURES.get(platform.machine())
    if known is None:
        return False
    machine, *numbers = known
    numbers += EVERYWHERE + (() if fixed else CHANGES[platform.machine()])
    steps = [(0x20, 0, 0, 4), (0x15, 1, 0, machine), (0x06, 0, 0, KILLED), (0x20, 0, 0, 0)]
    if platform.machine() == "x86_64":
        steps += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, KILLED)]  # another numbering of the same calls
    for number in numbers:
        steps += [(0x15, 0, 1, number), (0x06, 0, 0, REFUSED)]
    steps.append((0x06, 0, 0, ALLOWED))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filters = struct.pack("@HxxxxxxP", len(steps), ctypes.addressof(code))
    return attempt(kernel, "prctl", SECCOMP, 2, filters, 0, 0)


def attempt(kernel: Kernel, name: str, *arguments: object) -> bool:
    """Whether a call worked."""
    try:
        kernel.call(name, *arguments)
    except OSError:
        return False
    return True


def give_up(number: int, frame: object) -> None:
    """Asked to end: with everything."""
    end_orphans()
    os._exit(1)


def end_orphans() -> None:
    """End all that is left, also in sessions of their own: those whose parent has ended are this process's children."""
    for _ in range(1000):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                left = [int(number) for number in file.read().split()]
        except OSError:
            return
        if not left:
            return
        for number in left:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)


if __name__ == "__main__":
    main()
