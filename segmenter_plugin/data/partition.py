"""Outputs that appear whole or not at all, each with a manifest of what it was made from.

A partition is a folder with a ``manifest.json``. It is written in a staging folder outside every glob that a reader
uses, and becomes visible when complete. Its fingerprint is derived from what went in (inputs' fingerprints, the
configuration used, the format), so a stage whose inputs are the same can be skipped unread.

There are three shapes. What ours alone read (`new_partition`) lies in version folders that are never changed,
``cutoff=…/v-0a1b2c3d4e5f/``; the manifest beside them names the one that counts, and is replaced in one step. The
version before it stays until the next replacement, for who is still reading it. What others read by a glob
(`new_published`) and what a person copies (`new_plain_folder`) lie in the folder itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.clock import publication_time
from segmenter_plugin.data.durable import replace_text, sync_tree
from segmenter_plugin.data.staging import Staged, staged
from segmenter_plugin.errors import FormatVersionError, MissingStageError, SchemaError

#: 1 held all files beside the manifest, under the names they had been given.
FORMAT_VERSION = 2
#: Part of every fingerprint; grows when the same inputs would give other rows.
DERIVATION_VERSION = 1
MANIFEST = "manifest.json"
#: Rows a record batch: large enough for vectorised work, small enough for rows of long lists.
BATCH_ROWS = 2048
#: Keys of a manifest: the folder of the version that counts, and the names of the files that do.
_VERSION, _FILES = "version", "files"
_VERSION_PREFIX = "v-"


class Fingerprint(str):
    """A derivation hash that remembers what it was derived from, so that a manifest can tell.

    Attributes:
        inputs: Fingerprints of what was read, JSON-able.
    """

    inputs: Mapping[str, Any]


def fingerprint(stage: str, inputs: Mapping[str, Any], config: Mapping[str, Any]) -> Fingerprint:
    """Derivation hash of an output: equal exactly when it would be made from the same things.

    Args:
        stage: Name of the stage.
        inputs: Fingerprints of what it reads, JSON-able.
        config: The part of the configuration that it depends on, JSON-able.

    Returns:
        64 hexadecimal digits.
    """
    made_from = {"format_version": DERIVATION_VERSION, "stage": stage, "inputs": inputs, "config": config}
    found = Fingerprint(hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest())
    found.inputs = inputs
    return found


def file_fingerprints(paths: list[Path]) -> dict[str, str]:
    """Size and modification time of the owner's files: reading terabytes to hash them is not wanted."""
    return {str(path): f"{path.stat().st_size}-{path.stat().st_mtime_ns}" for path in sorted(paths)}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A partition's manifest, or None where there is no (whole) partition.

    Raises:
        FormatVersionError: It was written by a newer version.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if manifest.get("format_version", 0) > FORMAT_VERSION:
        raise FormatVersionError(
            f"{str(folder)!r} has format_version {manifest['format_version']}; this version reads to {FORMAT_VERSION}.",
            hint="upgrade segmenter-plugin, or build into another [store] root.",
        )
    return manifest


def require_manifest(folder: Path, command: str) -> dict[str, Any]:
    """A partition's manifest.

    Args:
        folder: Where the partition should be.
        command: What makes it, for the hint.

    Raises:
        MissingStageError: There is none.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise MissingStageError(f"{str(folder)!r} has not been built.", hint=f"run `{command}` first.")
    return manifest


def is_current(folder: Path, made_from: str) -> bool:
    """Whether a whole partition with that fingerprint is there."""
    manifest = read_manifest(folder)
    return manifest is not None and manifest["fingerprint"] == made_from


@contextmanager
def new_partition(folder: Path, root: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """A staging folder whose files become the partition `folder` when the block ends without an error.

    Args:
        folder: Where the partition lies; a version that was there before stays until the next one but this.
        root: The store's root; staging lies under ``root/.staging``, on the same file system.
        manifest: Must hold ``stage`` and ``fingerprint``; the block may add to it (counts, for example).

    Yields:
        The staging folder, existing and empty.

    Raises:
        ConcurrentRunError: Another run is writing the same output.
        OutputError: The disk is full.
    """
    with staged(folder, root) as staging:
        yield staging.folder
        whole = completed(staging, manifest)
        folder.mkdir(parents=True, exist_ok=True)
        kept = _entries_of_current(folder)
        version = f"{_VERSION_PREFIX}{staging.id[:12]}"
        staging.folder.rename(folder / version)
        replace_text(folder / MANIFEST, manifest_text(whole | {_VERSION: version}))
        _remove_all_but(folder, {version, *kept})


@contextmanager
def new_published(folder: Path, root: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """As `new_partition`, for rows that others read by a glob over all files of `folder`.

    Files come in under names that nobody has used, then the manifest moves, then the files before them go. In between
    a reader of the glob finds the rows of both versions, and never half a file, nor nothing; rows therefore need a
    ``created_timestamp`` that tells the newer from the older. Who has listed the files before may find one gone.
    """
    with staged(folder, root) as staging:
        yield staging.folder
        written = sorted(path for path in staging.folder.iterdir() if path.is_file())
        whole = completed(staging, manifest)
        folder.mkdir(parents=True, exist_ok=True)
        places = [folder / f"{path.stem}-{staging.id[:12]}{path.suffix}" for path in written]
        try:
            for path, place in zip(written, places, strict=True):
                path.rename(place)
        except BaseException:
            for place in places:
                place.unlink(missing_ok=True)
            raise
        names = [place.name for place in places]
        replace_text(folder / MANIFEST, manifest_text(whole | {_FILES: names}))
        _remove_all_but(folder, set(names))


@contextmanager
def new_plain_folder(folder: Path, root: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """As `new_partition`, for a folder of files under their own names, to be copied or read by other tools.

    Between two renames, while it replaces another, the folder is not there.
    """
    with staged(folder, root) as staging:
        yield staging.folder
        completed(staging, manifest)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Named as what a dead run leaves, which it would be if this one died here.
        retired = staging.folder.with_name(f"{staging.folder.name.rpartition('.')[0]}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            folder.rename(retired)
        staging.folder.rename(folder)
        shutil.rmtree(retired, ignore_errors=True)


def completed(staging: Staged, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as it is written, a first time beside the rows; all of it is on the disk then."""
    whole = {"format_version": FORMAT_VERSION, "written_at": publication_time().isoformat()} | dict(manifest)
    if isinstance(whole["fingerprint"], Fingerprint):
        whole.setdefault("inputs", whole["fingerprint"].inputs)
    (staging.folder / MANIFEST).write_text(manifest_text(whole), encoding="utf-8")
    sync_tree(staging.folder)
    return whole


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as it is written."""
    return json.dumps(manifest, indent=1, sort_keys=True, default=str) + "\n"


def _entries_of_current(folder: Path) -> set[str]:
    """Names in a partition's folder that make up the version which counts."""
    manifest = read_manifest(folder) or {}
    if _VERSION in manifest:
        return {manifest[_VERSION]}
    return {path.name for path in folder.iterdir() if not path.name.startswith(_VERSION_PREFIX)}


def _remove_all_but(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name == MANIFEST or path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def current(folder: Path) -> Path:
    """The folder that holds a partition's files: that of the version which counts, or the partition's own.

    What it holds is never changed, and stays until the partition has been replaced twice. It is a whole partition in
    itself, so who reads several things that belong together reads all of them from here.
    """
    manifest = read_manifest(folder)
    return folder / manifest[_VERSION] if manifest and _VERSION in manifest else folder


def data_files(folder: Path) -> list[Path]:
    """The Parquet files of a partition, or of any folder, in name order."""
    manifest = read_manifest(folder) or {}
    if _FILES in manifest:
        return [folder / name for name in manifest[_FILES] if name.endswith(".parquet")]
    place = folder / manifest[_VERSION] if _VERSION in manifest else folder
    return sorted(path for path in place.glob("*.parquet") if path.is_file())


def read_batches(
    folder: Path, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Stream a partition; memory is bounded by a batch (and Parquet's row group), not by the partition.

    Raises:
        SchemaError: A column is missing.
    """
    for path in data_files(folder):
        with pq.ParquetFile(path) as file:
            missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if missing:
                raise SchemaError(
                    f"{str(folder)!r} lacks the columns {missing}; it has {file.schema_arrow.names}.",
                    hint="it was built with another configuration; run the stage that makes it again.",
                )
            yield from file.iter_batches(batch_size=rows, columns=list(columns) if columns else None)
