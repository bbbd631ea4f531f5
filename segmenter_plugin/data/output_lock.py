"""One run at a time for one output: a lock file, and whether the process that wrote it still lives.

A lock of a process of this machine counts while that process runs. Of another machine that cannot be known: its lock
counts for a day, unless someone removes the file.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from segmenter_plugin.clock import nanos_now
from segmenter_plugin.errors import ConcurrentRunError

logger = logging.getLogger(__name__)

SUFFIX = ".lock"
#: Age after which the lock of another machine counts no more, seconds.
LOST_AFTER_S = 86_400.0
#: Age after which a lock that its process has created and not written counts no more, seconds.
UNWRITTEN_AFTER_S = 60.0
_ANOTHER_TRY = 3


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        id: Of the lock, 32 hexadecimal digits.
        pid: Number of the process.
        host: Name of its machine.
        started: When it started, in the kernel's units; numbers of processes come back. None where that is not known.
    """

    id: str
    pid: int
    host: str
    started: str | None

    @classmethod
    def this_process(cls) -> Owner:
        """This one, with a new id."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, pid, socket.gethostname(), _started(pid))


@contextmanager
def locked(lock: Path) -> Iterator[str]:
    """Hold a lock while the block runs.

    Args:
        lock: The lock file, in a folder that exists.

    Yields:
        The lock's id.

    Raises:
        ConcurrentRunError: Another run holds it.
    """
    owner = Owner.this_process()
    for _ in range(_ANOTHER_TRY):
        if _create(lock, owner):
            break
        if not release_dead(lock):
            raise _concurrent(lock)
    else:
        raise _concurrent(lock)
    try:
        yield owner.id
    finally:
        if read_owner(lock) == owner:
            lock.unlink(missing_ok=True)


def _create(lock: Path, owner: Owner) -> bool:
    try:
        with lock.open("x", encoding="utf-8") as file:
            file.write(json.dumps(asdict(owner)))
    except FileExistsError:
        return False
    return True


def read_owner(lock: Path) -> Owner | None:
    """Who holds a lock; None where nobody does, or whoever does has not yet said so."""
    try:
        return Owner(**json.loads(lock.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def release_dead(lock: Path) -> bool:
    """Remove a lock whose process is dead; whether the lock is free now.

    Several processes may find the same dead owner: who creates the claim on it removes it, and looks again before.
    """
    found = read_owner(lock)
    if not _is_dead(lock, found):
        return not lock.exists()
    claim = lock.with_name(f"{lock.name}.{found.id if found else 'unwritten'}")
    if _age_s(claim) > UNWRITTEN_AFTER_S:
        claim.unlink(missing_ok=True)
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        if read_owner(lock) != found or not _is_dead(lock, found):
            return False
        lock.unlink(missing_ok=True)
        logger.warning("%s: its run ended without a word; what it left unfinished is removed", lock.stem)
    finally:
        claim.unlink(missing_ok=True)
    return True


def is_held(lock: Path) -> bool:
    """Whether a run holds that lock, as far as can be known."""
    return lock.exists() and not _is_dead(lock, read_owner(lock))


def _is_dead(lock: Path, owner: Owner | None) -> bool:
    if owner is None:
        return _age_s(lock) > UNWRITTEN_AFTER_S
    if owner.host != socket.gethostname():
        return _age_s(lock) > LOST_AFTER_S
    return not _runs(owner)


def _runs(owner: Owner) -> bool:
    """Whether that process of this machine still runs; where the system does not tell, it does."""
    if os.name != "posix":
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    if owner.started is None:
        return True
    return _started(owner.pid) == owner.started


def _started(pid: int) -> str | None:
    """When a process started; None where there is no /proc, or the process has ended and waits for its parent."""
    try:
        # Fields follow the name in brackets, which may itself hold brackets and spaces; proc(5): 3 state, 22 start.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _age_s(path: Path) -> float:
    try:
        return (nanos_now() - path.stat().st_mtime_ns) / 1e9
    except FileNotFoundError:
        return 0.0


def _concurrent(lock: Path) -> ConcurrentRunError:
    owner = read_owner(lock)
    who = "another process" if owner is None else f"process {owner.pid} on {owner.host}"
    return ConcurrentRunError(
        f"{lock.stem.replace('~', '/')!r} is being written by {who}, for {_age_s(lock):.0f} s; one run at a time may.",
        hint=f"wait for that run, or end it; if its machine is gone, remove {str(lock)!r}.",
    )
