"""Files that a glob names in a file system other than this machine's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pyarrow import fs

STARS = re.compile(r"[*?\[]")


def split_glob(pattern: str) -> tuple[str, str]:
    """Folders before the first star, and the rest."""
    parts = pattern.split("/")
    stars = next((i for i, part in enumerate(parts) if STARS.search(part)), len(parts))
    return "/".join(parts[:stars]), "/".join(parts[stars:])


def remote_glob(filesystem: fs.FileSystem, pattern: str) -> list[fs.FileInfo]:
    """Files and folders that match.

    Args:
        filesystem: Where they are.
        pattern: A path there; a star stays within one folder, ``**`` stands for any number of folders.
    """
    root, rest = split_glob(pattern)
    found = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    depth = len(root.split("/"))
    return [info for info in found if _matches(info.path.split("/")[depth:], rest.split("/"))]


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Part by part."""
    if not path or not pattern:
        return not path and not pattern
    # As in a shell, a star does not stand for a leading dot.
    hidden = path[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return (not hidden and _matches(path[1:], pattern)) or _matches(path, pattern[1:])
    return not hidden and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])
