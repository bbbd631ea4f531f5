"""Where outputs are written before they are whole: ``<root>/.staging``, outside every glob that a reader uses.

Each output being written has a lock, ``behaviour~cutoff=….lock``, and a folder, ``behaviour~cutoff=….<id of the
lock>``. A folder without its lock is what a dead run left; the next run removes it.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segmenter_plugin.data.output_lock import SUFFIX, is_held, locked, read_owner, release_dead
from segmenter_plugin.errors import OutputError

STAGING = ".staging"
_STAGED = re.compile(r"(?P<output>.+)\.(?P<id>[0-9a-f]{32})")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: Executors' errors arrive as text.
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")


@dataclass(frozen=True)
class Staged:
    """An output being written.

    Attributes:
        folder: Where; it exists and is empty at first.
        id: 32 hexadecimal digits that no other output has.
    """

    folder: Path
    id: str


@contextmanager
def staged(output: Path, root: Path) -> Iterator[Staged]:
    """A folder to write an output in; it is removed in the end, unless it was renamed away.

    Args:
        output: Where the output will lie; one run at a time may write it.
        root: The store's root, on the same file system.

    Raises:
        ConcurrentRunError: Another run is writing that output.
        OutputError: The disk is full.
    """
    staging = root / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    name = _name(output, root)
    with _full_disk_named(output, staging), locked(staging / f"{name}{SUFFIX}") as identity:
        sweep(root)
        folder = staging / f"{name}.{identity}"
        try:
            folder.mkdir()
            yield Staged(folder, identity)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove what dead runs left unfinished."""
    # Folders first: one that is listed had its lock before, so if it has none afterwards, its run is over.
    folders = [path for path in _entries(root) if _STAGED.fullmatch(path.name) and path.is_dir()]
    for lock in _locks(root):
        release_dead(lock)
    held = _held(root)
    for folder in folders:
        if folder.name.rpartition(".")[2] not in held:
            shutil.rmtree(folder, ignore_errors=True)


def leftovers(root: Path) -> list[Path]:
    """Folders of dead runs, which the next run will remove."""
    folders = [path for path in _entries(root) if path.is_dir()]
    held = {owner.id for lock in _locks(root) if is_held(lock) and (owner := read_owner(lock))}
    return [path for path in folders if path.name.rpartition(".")[2] not in held]


def being_written(root: Path) -> list[str]:
    """Outputs that a run is writing, relative to the root."""
    return [lock.stem.replace("~", "/") for lock in _locks(root) if is_held(lock)]


def _held(root: Path) -> set[str]:
    return {owner.id for lock in _locks(root) if (owner := read_owner(lock))}


def _entries(root: Path) -> list[Path]:
    staging = root / STAGING
    return sorted(staging.iterdir()) if staging.is_dir() else []


def _locks(root: Path) -> list[Path]:
    return [path for path in _entries(root) if path.suffix == SUFFIX]


def _name(output: Path, root: Path) -> str:
    absolute, top = output.absolute(), root.absolute()
    return "~".join(absolute.relative_to(top).parts) if absolute.is_relative_to(top) else absolute.name


@contextmanager
def _full_disk_named(output: Path, staging: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if (isinstance(error, OSError) and error.errno in _FULL) or any(text in str(error) for text in _FULL_TEXTS):
            raise OutputError(
                f"{str(output)!r} cannot be written, as there is no room left under {str(staging)!r}.",
                hint="make room there, or choose another [store] root, and run again; nothing visible has changed.",
            ) from error
        raise
