"""Where the Parquet files of a source lie: a file, a folder or a glob, here or in a bucket."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
from feast import FileSource
from feast.data_format import DeltaFormat
from pyarrow import fs

from segmenter_plugin.store.delta import delta_files

_STARS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class StoredFiles:
    """Files in one file system.

    Args:
        filesystem: Where they are.
        infos: Path, size and time of change of each, in the order in which they are read.
    """

    filesystem: fs.FileSystem
    infos: tuple[fs.FileInfo, ...]

    @property
    def is_local(self) -> bool:
        """Whether reading small pieces costs no round trips."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def changed(self) -> list[str]:
        """Paths of files that are not what they were."""
        now = self.filesystem.get_file_info([info.path for info in self.infos])
        return [old.path for old, new in zip(self.infos, now, strict=True) if _identity(old) != _identity(new)]


def _identity(info: fs.FileInfo) -> tuple[object, ...]:
    return info.type, info.size, info.mtime_ns


def source_files(source: FileSource, repo_path: Path | None) -> StoredFiles:
    """The files of a source, sorted by path.

    Args:
        source: Its path starts at the repository's folder unless it is absolute; in a folder every file counts except
            those whose names begin with a dot or an underscore.
        repo_path: Folder of the repository.
    """
    uri = FileSource.get_uri_for_file_path(repo_path=repo_path, uri=source.path)
    if isinstance(source.file_format, DeltaFormat):
        filesystem: fs.FileSystem = fs.LocalFileSystem()
        paths = [str(path) for path in delta_files(uri)]
    elif "://" not in uri:
        filesystem = fs.LocalFileSystem()
        paths = glob.glob(uri, recursive=True) if _STARS.search(uri) else [uri]
    else:
        filesystem, pattern = _remote(source, uri)
        paths = _remote_glob(filesystem, pattern) if _STARS.search(pattern) else [pattern]
    infos = [inner for info in filesystem.get_file_info(paths) for inner in _files_of(filesystem, info)]
    return StoredFiles(filesystem, tuple(sorted(infos, key=lambda info: info.path)))


def _files_of(filesystem: fs.FileSystem, info: fs.FileInfo) -> list[fs.FileInfo]:
    if info.type != fs.FileType.Directory:
        return [info] if info.type == fs.FileType.File else []
    root = PurePosixPath(info.path)
    inner = filesystem.get_file_info(fs.FileSelector(info.path, recursive=True))
    return [
        found
        for found in inner
        if found.type == fs.FileType.File
        and not any(part.startswith((".", "_")) for part in PurePosixPath(found.path).relative_to(root).parts)
    ]


def _remote(source: FileSource, uri: str) -> tuple[fs.FileSystem, str]:
    if uri.startswith("s3://"):
        return FileSource.create_filesystem_and_path(uri, source.s3_endpoint_override, source.resolve_credentials())
    fixed, rest = _split(uri)
    try:
        filesystem, root = fs.FileSystem.from_uri(fixed)
    except pa.ArrowInvalid:  # a scheme that Arrow does not know
        remote, root = fsspec.core.url_to_fs(fixed)
        filesystem = fs.PyFileSystem(fs.FSSpecHandler(remote))
    return filesystem, f"{root.rstrip('/')}/{rest}" if rest else root


def _split(pattern: str) -> tuple[str, str]:
    """Folders before the first star, and the rest."""
    parts = pattern.split("/")
    stars = next((i for i, part in enumerate(parts) if _STARS.search(part)), len(parts))
    return "/".join(parts[:stars]), "/".join(parts[stars:])


def _remote_glob(filesystem: fs.FileSystem, pattern: str) -> list[str]:
    root, rest = _split(pattern)
    found = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    depth = len(root.split("/"))
    return [info.path for info in found if _matches(info.path.split("/")[depth:], rest.split("/"))]


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Part by part, as a star stays within one folder; ``**`` stands for any number of them."""
    if not path or not pattern:
        return not path and not pattern
    # As in a shell, a star does not stand for a leading dot.
    hidden = path[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        return (not hidden and _matches(path[1:], pattern)) or _matches(path, pattern[1:])
    return not hidden and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])
