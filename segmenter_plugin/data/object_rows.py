"""Published rows in a bucket: which of the files there count.

A bucket has no rename, so files lie where a glob finds them before they count. Of a cutoff's folder those count that
its newest manifest names, ``manifest-00000003.json``; a manifest is put if absent and never changed, so there is one
of each number. `MARKER` says of a view's folder that it is read so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyarrow import fs

from segmenter_plugin.data.partition import FORMAT_VERSION
from segmenter_plugin.errors import FormatVersionError, StoreError

#: In a view's folder: nothing below it counts that no manifest names, not even where there is no manifest yet.
MARKER = "_counts_by_manifest.json"
#: How sources name the files of a view's folder.
GLOB = "*/*.parquet"
_MANIFEST = re.compile(r"manifest-(\d{8})\.json")
#: Small requests under way at once; each waits some 20 ms for its answer.
_REQUESTS = 16
#: Listings that may meet a replacement, each, before it is told.
_ATTEMPTS = 4


@dataclass(frozen=True)
class ObjectFolder:
    """A folder of a bucket.

    Attributes:
        filesystem: Of the bucket.
        path: ``bucket/prefix/folder``.
    """

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, uri: str, endpoint: str | None = None) -> ObjectFolder:
        """A folder by its address.

        Credentials and region come from where Amazon's libraries look for them.

        Args:
            uri: ``s3://bucket/prefix/folder``.
            endpoint: ``https://host:port`` of a store that is not Amazon's.
        """
        if endpoint is None:
            return cls(*fs.FileSystem.from_uri(uri))
        return cls(fs.S3FileSystem(endpoint_override=endpoint), uri.removeprefix("s3://"))

    def files(self) -> list[fs.FileInfo]:
        """All files below, however deep, by path.

        Raises:
            StoreError: The bucket is not there, or cannot be reached.
        """
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True, allow_not_found=True))
        except OSError as error:
            raise StoreError(
                f"'s3://{self.path}' cannot be listed: {error}",
                hint="see that the bucket exists, and that credentials, region and endpoint are right.",
            ) from error
        return sorted((info for info in found if info.type == fs.FileType.File), key=lambda info: info.path)

    def counts_by_manifest(self) -> bool:
        """Whether `committed` tells what counts here."""
        return bool(self.filesystem.get_file_info(f"{self.path}/{MARKER}").type == fs.FileType.File)


@dataclass(frozen=True)
class ObjectPartition:
    """What counts in a folder such as ``cutoff=20240101T000000Z``.

    Attributes:
        name: Of the folder.
        number: Of the manifest; 0 where there is none.
        manifest: What it says; empty where there is none.
        files: Those that it names.
        others: Files beside them, which do not count: replaced ones, or what a killed publisher left.
    """

    name: str
    number: int
    manifest: Mapping[str, Any]
    files: tuple[fs.FileInfo, ...]
    others: tuple[fs.FileInfo, ...]


def manifest_name(number: int) -> str:
    """Name of a manifest; they are counted from 1."""
    return f"manifest-{number:08d}.json"


def committed(folder: ObjectFolder) -> dict[str, ObjectPartition]:
    """What counts below a view's folder, by the names of the folders in it.

    Raises:
        FormatVersionError: A manifest was written by a newer version.
        StoreError: Rows were replaced again and again while they were listed, or a named file is gone for good.
    """
    for _ in range(_ATTEMPTS):
        inner: dict[str, list[fs.FileInfo]] = {}
        for info in folder.files():
            inner.setdefault(str(info.path).split("/")[-2], []).append(info)
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = [one for one in pool.map(lambda item: _partition(folder, *item), inner.items()) if one.number]
        # A replacement between the listing's pages takes away what the manifest of an earlier page names.
        lacking = [one for one in found if len(one.files) < len(one.manifest["files"])]
        if not lacking:
            return {one.name: one for one in found}
    manifest = f"s3://{folder.path}/{lacking[0].name}/{manifest_name(lacking[0].number)}"
    raise StoreError(
        f"files that {manifest!r} names are not there.",
        hint="run again; if it stays so, somebody removed them: run `segmenter publish` for that cutoff.",
    )


def partition_as_of_now(folder: ObjectFolder, name: str) -> ObjectPartition:
    """What counts, and what does not, in one folder below a view's; number 0 where there is no manifest.

    Files are listed before the newest manifest is looked for, which `store.object_store` rests on.
    """
    inner = ObjectFolder(folder.filesystem, f"{folder.path}/{name}")
    listed = [info for info in inner.files() if not _MANIFEST.fullmatch(info.base_name)]
    manifests = [info for info in inner.files() if _MANIFEST.fullmatch(info.base_name)]
    return _partition(folder, name, [*listed, *manifests])


def read_json(filesystem: fs.FileSystem, path: str) -> dict[str, Any]:
    """A manifest.

    Raises:
        FormatVersionError: It was written by a newer version.
    """
    with filesystem.open_input_file(path) as file:
        manifest: dict[str, Any] = json.loads(file.read())
    if manifest.get("format_version", 0) > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path!r} has format_version {manifest['format_version']}; this version reads to {FORMAT_VERSION}.",
            hint="upgrade segmenter-plugin, or publish to another [store] published.",
        )
    return manifest


def _partition(folder: ObjectFolder, name: str, infos: Iterable[fs.FileInfo]) -> ObjectPartition:
    infos = list(infos)
    numbers = [int(found[1]) for info in infos if (found := _MANIFEST.fullmatch(info.base_name))]
    number = max(numbers, default=0)
    manifest = read_json(folder.filesystem, f"{folder.path}/{name}/{manifest_name(number)}") if number else {}
    named = set(manifest.get("files", ()))
    rows = [info for info in infos if not _MANIFEST.fullmatch(info.base_name) and info.base_name != MARKER]
    return ObjectPartition(
        name,
        number,
        manifest,
        tuple(info for info in rows if info.base_name in named),
        tuple(info for info in rows if info.base_name not in named),
    )
