"""Where the Parquet files of a source lie: a file, a folder or a glob, here or in a bucket."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
from feast import FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from pyarrow import fs

from segmenter_plugin.data.object_rows import GLOB, ObjectFolder, committed
from segmenter_plugin.data.remote_glob import STARS, remote_glob, split_glob
from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.delta import delta_files, is_remote


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

    Of a Delta table those of one snapshot; of what we published to a bucket those that count there.

    Args:
        source: Its path starts at the repository's folder unless it is absolute; in a folder every file counts except
            those whose names begin with a dot or an underscore.
        repo_path: Folder of the repository.
    """
    uri = FileSource.get_uri_for_file_path(repo_path=repo_path, uri=source.path)
    if isinstance(source.file_format, DeltaFormat):
        filesystem, paths = _snapshot(source, uri)
    elif "://" not in uri:
        filesystem = fs.LocalFileSystem()
        paths = glob.glob(uri, recursive=True) if STARS.search(uri) else [uri]
    else:
        filesystem, pattern = _remote(source, uri)
        counted = _counted(filesystem, pattern)
        if counted is not None:
            return StoredFiles(filesystem, counted)
        paths = [info.path for info in remote_glob(filesystem, pattern)] if STARS.search(pattern) else [pattern]
    infos = [inner for info in filesystem.get_file_info(paths) for inner in _files_of(filesystem, info)]
    return StoredFiles(filesystem, tuple(sorted(infos, key=lambda info: info.path)))


def _snapshot(source: FileSource, uri: str) -> tuple[fs.FileSystem, list[str]]:
    """Files of a Delta table as it is now."""
    if not is_remote(uri):
        return fs.LocalFileSystem(), delta_files(uri)
    names = delta_files(uri, source.s3_endpoint_override, source.resolve_credentials())
    filesystem, _ = _remote(source, uri)
    return filesystem, [name.partition("://")[2] for name in names]


def counted_addresses(source: FileSource) -> list[str] | None:
    """Of rows that `segmenter publish` put into a bucket the files that count; None for files of any other kind.

    Raises:
        StoreError: None counts.
    """
    if not source.path.startswith("s3://") or not isinstance(source.file_format, ParquetFormat | None):
        return None
    found = _counted(*_remote(source, source.path))
    if found == ():
        raise StoreError(
            f"no file counts of those that match {source.path!r}.", hint="run `segmenter publish --cutoff TIME` first."
        )
    return None if found is None else [f"s3://{info.path}" for info in found]


def _counted(filesystem: fs.FileSystem, pattern: str) -> tuple[fs.FileInfo, ...] | None:
    """Of rows that `segmenter publish` put into a bucket those that count; None for files of any other kind."""
    folder = ObjectFolder(filesystem, pattern.removesuffix(f"/{GLOB}"))
    if folder.path == pattern or STARS.search(folder.path) or not folder.counts_by_manifest():
        return None
    partitions = sorted(committed(folder).values(), key=lambda one: one.name)
    return tuple(info for one in partitions for info in one.files)


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
    fixed, rest = split_glob(uri)
    try:
        filesystem, root = fs.FileSystem.from_uri(fixed)
    except pa.ArrowInvalid:  # a scheme that Arrow does not know
        remote, root = fsspec.core.url_to_fs(fixed)
        filesystem = fs.PyFileSystem(fs.FSSpecHandler(remote))
    return filesystem, f"{root.rstrip('/')}/{rest}" if rest else root
