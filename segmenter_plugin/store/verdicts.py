"""The gate's verdict on a published partition, and the refusal to put rows online without one.

A verdict lies beside the rows that it is of, ``_verdict.json`` in the partition's folder; of a Delta table in
``_verdicts/<partition>/`` of the table, where a vacuum leaves it. It names the files that were looked at. Files are
never changed and no name is used twice, so a verdict holds for these rows and for no others: those published in their
place need one of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from pyarrow import fs

from segmenter_plugin.clock import parse_cutoff_key
from segmenter_plugin.data.durable import replace_text
from segmenter_plugin.data.object_rows import GLOB, ObjectFolder, partition_as_of_now
from segmenter_plugin.data.partition import manifest_text
from segmenter_plugin.errors import GateError, SchemaError, StoreError
from segmenter_plugin.store.files import source_files
from segmenter_plugin.store.views import FOLDER_TAG

VERDICT = "_verdict.json"
_DELTA_FOLDER = "_verdicts"
OPTION = "require_verdict"
#: What lets rows through; so does any verdict that a person has accepted.
_PASSING = ("ok", "warn")


def passes(verdict: Mapping[str, Any]) -> bool:
    """Whether rows of that verdict may go online."""
    return verdict["verdict"] in _PASSING or verdict["accepted"] is not None


@dataclass(frozen=True)
class PublishedRows:
    """The published rows of one view, by the names of their partitions; pushed rows are not among them.

    Attributes:
        filesystem: Where they lie.
        root: The view's folder, or its Delta table, there.
        is_delta: Whether it is one.
        files: Of each partition, by its name ``cutoff=20240101T000000Z``.
    """

    filesystem: fs.FileSystem
    root: str
    is_delta: bool
    files: Mapping[str, tuple[fs.FileInfo, ...]]

    @classmethod
    def of(cls, source: FileSource, repo_path: Path | None) -> PublishedRows:
        """Look what there is now.

        Args:
            source: See `file_source`.
            repo_path: Folder of the Feast repository, from which a relative path starts.
        """
        is_delta = isinstance(source.file_format, DeltaFormat)
        stored = source_files(source, repo_path)
        found: dict[str, list[fs.FileInfo]] = {}
        for info in stored.infos:
            key = PurePosixPath(info.path).parent.name
            if parse_cutoff_key(key) is not None:
                found.setdefault(key, []).append(info)
        roots = {str(PurePosixPath(info.path).parents[1]) for infos in found.values() for info in infos}
        root = min(roots, default="")
        return cls(stored.filesystem, root, is_delta, {key: tuple(infos) for key, infos in found.items()})

    @property
    def cutoffs(self) -> list[datetime]:
        """Of the partitions, ascending."""
        times = (parse_cutoff_key(key) for key in self.files)
        return sorted(time for time in times if time is not None)

    def names(self, key: str) -> list[str]:
        """Names of a partition's files, ascending."""
        return sorted(info.base_name for info in self.files.get(key, ()))

    def count(self, key: str) -> int:
        """Rows of a partition, by the files' footers."""
        return sum(self._open(info).metadata.num_rows for info in self.files[key])

    def batches(self, key: str, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Stream a partition.

        Raises:
            SchemaError: A column is missing.
        """
        for info in self.files[key]:
            file = self._open(info)
            missing = sorted(set(columns) - set(file.schema_arrow.names))
            if missing:
                raise SchemaError(
                    f"{info.path!r} lacks the columns {missing}; it has {file.schema_arrow.names}.",
                    hint="it was published with another configuration; publish that cutoff again.",
                )
            yield from file.iter_batches(batch_size=rows, columns=list(columns))

    def _open(self, info: fs.FileInfo) -> pq.ParquetFile:
        return pq.ParquetFile(self.filesystem.open_input_file(info.path))

    def verdict(self, key: str) -> dict[str, Any] | None:
        """The verdict on the rows that are there now; None where there is none, or one of other rows."""
        found = self.any_verdict(key)
        return found if found is not None and found["files"] == self.names(key) else None

    def any_verdict(self, key: str) -> dict[str, Any] | None:
        """The verdict that lies there, whichever rows it is of."""
        try:
            with self.filesystem.open_input_file(self._place(key)) as file:
                found: dict[str, Any] = json.loads(file.read())
        except FileNotFoundError:
            return None
        return found

    def put_verdict(self, key: str, verdict: Mapping[str, Any]) -> None:
        """Write a verdict on a partition, whole or not at all, in the place of one that was there."""
        place, text = self._place(key), manifest_text(verdict)
        if isinstance(self.filesystem, fs.LocalFileSystem):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            replace_text(Path(place), text)
            return
        # In a bucket an object appears when its stream is closed.
        with self.filesystem.open_output_stream(place) as stream:
            stream.write(text.encode())

    def _place(self, key: str) -> str:
        folder = f"{_DELTA_FOLDER}/{key}" if self.is_delta else key
        return f"{self.root}/{folder}/{VERDICT}"

    def names_in(self, view: str, key: str) -> list[str]:
        """Names of the files of another view's partition, which lies beside this view's; not of a Delta table."""
        folder = str(PurePosixPath(self.root).with_name(view))
        place = ObjectFolder(self.filesystem, folder)
        if not isinstance(self.filesystem, fs.LocalFileSystem) and place.counts_by_manifest():
            return sorted(info.base_name for info in partition_as_of_now(place, key).files)
        selector = fs.FileSelector(f"{folder}/{key}", allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if info.base_name.endswith(".parquet"))


def file_source(source: DataSource) -> FileSource | None:
    """A source whose files are our partitions; None where it is a table, a query or something else."""
    if isinstance(source, FileSource):
        is_known = isinstance(source.file_format, DeltaFormat | ParquetFormat | None)
        return source if is_known and (isinstance(source.file_format, DeltaFormat) or GLOB in source.path) else None
    if isinstance(source, SparkSource) and source.path and source.path.endswith(f"/{GLOB}"):
        path = source.path.removeprefix("file://")
        path = f"s3://{path.removeprefix('s3a://')}" if path.startswith("s3a://") else path
        return FileSource(name=source.name, path=path, timestamp_field=source.timestamp_field)
    return None


def require_verdicts(
    view: FeatureView, repo_path: Path | None, window: tuple[datetime, datetime], source: FileSource | None = None
) -> None:
    """Refuse a view of ours if any partition of a window has no verdict that lets it through.

    The verdict of a cutoff is one for all its views: where the rows of another view have been replaced since, it no
    longer holds for this one either. Views that are not ours are let through, and so are rows that were pushed.

    Args:
        view: As the registry has it.
        repo_path: Folder of the Feast repository.
        window: First and last event_timestamp, both included; a naive time is UTC.
        source: Where its partitions lie, if the view's own source does not tell.

    Raises:
        GateError: There is no such verdict.
        StoreError: Nobody can tell which partitions the view's source holds.
    """
    if FOLDER_TAG not in view.tags:
        return
    source = source or file_source(view.batch_source)
    if source is None:
        raise StoreError(
            f"{OPTION} is true, and {type(view.batch_source).__name__} of {view.name!r} holds no partitions that a "
            "verdict could be of.",
            hint=f"use `segmenter materialize-online`, which finds them, or set {OPTION}: false in feature_store.yaml.",
        )
    start, end = (time if time.tzinfo else time.replace(tzinfo=UTC) for time in window)
    rows = PublishedRows.of(source, repo_path)
    for key in sorted(rows.files):
        cutoff = parse_cutoff_key(key)
        if cutoff is not None and start <= cutoff <= end:
            _require(rows, key, cutoff, view)


def _require(rows: PublishedRows, key: str, cutoff: datetime, view: FeatureView) -> None:
    found, name = rows.any_verdict(key), f"{view.tags[FOLDER_TAG]}/{key}"
    command = f"segmenter gate --cutoff {cutoff:%Y-%m-%dT%H:%M:%SZ}"
    if found is None:
        raise _refused(name, "has no verdict of the gate", f"run `{command}` first.")
    replaced = _replaced(rows, key, view, found)
    if replaced is not None:
        raise _refused(name, f"has a verdict that is not of the rows of {replaced} now", f"run `{command}` again.")
    if not passes(found):
        stopped = [check for check in found["checks"] if check["verdict"] == "stop"]
        moved = ", ".join(str(user["user_id"]) for user in found["moved"])
        raise _refused(
            name,
            "was stopped by the gate: " + "; ".join(check["message"] for check in stopped)
            + (f" Users who moved furthest: {moved}." if moved else ""),
            f"mend what it names, publish again and run `{command}`; or let it through with `--accept REASON`.",
        )  # fmt: skip


def _refused(name: str, what: str, hint: str) -> GateError:
    return GateError(f"nothing of {name!r} goes online ({OPTION}): it {what.removesuffix('.')}.", hint=hint)


def _replaced(rows: PublishedRows, key: str, view: FeatureView, verdict: Mapping[str, Any]) -> str | None:
    """The view whose rows are not those of the verdict; None where all are."""
    folder = view.tags[FOLDER_TAG]
    if verdict["files"] != rows.names(key):
        return folder
    if rows.is_delta or PurePosixPath(rows.root).name != folder:
        return None
    for other, names in verdict["views"].items():
        if other != folder and rows.names_in(other, key) != names:
            return str(other)
    return None
