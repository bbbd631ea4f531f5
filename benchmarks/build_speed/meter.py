"""CPU seconds, wall and memory of a command and of everything that it starts, JVM and orphans included.

    python -m build_speed.meter COMMAND ...

The meter makes itself the reaper of orphans (`PR_SET_CHILD_SUBREAPER`), so that a JVM whose Python has ended, and a
worker whose JVM has ended, are still seen. CPU time is what each process was last seen with, every 50 ms: the kernel's
own sums would not do, because Spark's daemon of Python workers ignores their ends (``SIGCHLD``), and time of children
that nobody waits for is added to nobody. Memory is sampled too, as proportional set size: pages that forked workers
share count once.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_S = 0.05
#: Memory takes longer to read.
_SAMPLES_A_MEMORY = 4
#: What outlives the command is given this long before it is ended.
_GRACE_S = 30.0


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        cpu_s: User and system seconds of all processes.
        wall_s: Seconds until the command itself ended.
        peak_mb: The most that all processes held at once, each shared page once.
        code: The command's exit code.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float
    code: int


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end, and all that it has started.

    To be called in a process without other children.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.perf_counter()
    child = subprocess.Popen(command)
    watch = _Watch()
    watch.start()
    code, wall = 0, 0.0
    while True:
        try:
            # Left to be waited for until its time is read.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            break
        watch.look(ended.si_pid)
        pid, status = os.waitpid(ended.si_pid, 0)
        if pid == child.pid:
            code, wall = os.waitstatus_to_exitcode(status), time.perf_counter() - started
            child.returncode = code
            threading.Timer(_GRACE_S, _end_children).start() if _children(os.getpid()) else None
    watch.stop()
    return Cost(round(watch.cpu_s, 3), round(wall, 3), round(watch.peak_mb, 1), code)


class _Watch(threading.Thread):
    """Samples time and memory of all descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0
        self._cpu: dict[tuple[int, int], float] = {}
        self._ended = threading.Event()

    @property
    def cpu_s(self) -> float:
        """User and system seconds of all processes seen."""
        return sum(self._cpu.values())

    def run(self) -> None:
        for number in itertools.count():
            if self._ended.wait(_SAMPLE_S):
                return
            found = descendants(os.getpid())
            for pid in found:
                self.look(pid)
            if number % _SAMPLES_A_MEMORY == 0:
                self.peak_mb = max(self.peak_mb, sum(_proportional_mb(pid) for pid in found))

    def look(self, pid: int) -> None:
        """Take down the time that a process has used, without its children."""
        try:
            # The name of the program, in brackets, may hold anything; numbers follow it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return
        user, system, started = (int(fields[place]) for place in (11, 12, 19))
        self._cpu[pid, started] = (user + system) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self.join()


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and they in turn."""
    found, left = [], _children(pid)
    while left:
        child = left.pop()
        found.append(child)
        left += _children(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _proportional_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _end_children() -> None:
    for pid in descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Measure the command given; its cost is the last line of standard output."""
    cost = measure(sys.argv[1:])
    print(json.dumps(asdict(cost)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
