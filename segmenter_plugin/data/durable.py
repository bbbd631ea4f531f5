"""Writes that survive a machine which stops: a file is there as before or as after, never in between."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Put a file in the place of another, or where none was, in one step."""
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` of all that lies in a folder, however deep, and of the folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))
