"""Output folders that appear whole or not at all, each with a manifest of what it was made from.

A partition is a folder of files with a ``manifest.json``. It is written in a staging folder outside every glob
that a reader uses, and renamed into place when complete. Its fingerprint is derived from what went in (inputs'
fingerprints, the configuration used, the format), so a stage whose inputs are the same can be skipped unread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.errors import FormatVersionError, MissingStageError, SchemaError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STAGING = ".staging"
#: Rows a record batch: large enough for vectorised work, small enough for rows of long lists.
BATCH_ROWS = 2048


def fingerprint(stage: str, inputs: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Derivation hash of an output: equal exactly when it would be made from the same things.

    Args:
        stage: Name of the stage.
        inputs: Fingerprints of what it reads, JSON-able.
        config: The part of the configuration that it depends on, JSON-able.

    Returns:
        64 hexadecimal digits.
    """
    made_from = {"format_version": FORMAT_VERSION, "stage": stage, "inputs": inputs, "config": config}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()


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
    except FileNotFoundError:
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
    """A staging folder that becomes `folder` when the block ends without an error.

    Args:
        folder: Final place; what was there before is replaced.
        root: The store's root; staging lies under ``root/.staging``, on the same file system.
        manifest: Must hold ``stage`` and ``fingerprint``; the block may add to it (counts, for example).

    Yields:
        The staging folder, existing and empty.
    """
    staging = root / STAGING / f"{folder.name}-{uuid.uuid4().hex}"
    staging.mkdir(parents=True)
    try:
        yield staging
        text = json.dumps({"format_version": FORMAT_VERSION} | manifest, indent=1, sort_keys=True, default=str)
        (staging / MANIFEST).write_text(text + "\n", encoding="utf-8")
        _replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(staging: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    retired = staging.with_name(staging.name + "-retired")
    if folder.exists():
        folder.rename(retired)
    staging.rename(folder)
    shutil.rmtree(retired, ignore_errors=True)


def data_files(folder: Path) -> list[Path]:
    """The Parquet files of a partition, in name order."""
    return sorted(path for path in folder.glob("*.parquet") if path.is_file())


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
