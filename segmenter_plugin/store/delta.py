"""Published rows as Delta tables: a publish is one commit, and a reader has one snapshot.

The table of a view lies in ``features_delta/<view>``, partitioned by ``cutoff``. Each commit replaces the rows of one.
What was replaced stays on disk, for who is reading it, until the owner vacuums the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.data.durable import replace_text
from segmenter_plugin.data.partition import MANIFEST, completed, data_files, manifest_text
from segmenter_plugin.data.staging import staged
from segmenter_plugin.errors import ConcurrentRunError, StoreError

PARTITION = "cutoff"
_BATCH_ROWS = 32_768
#: Features with which rows are not what the files hold, or are called otherwise there.
_MORE_THAN_FILES = {"deletionVectors", "columnMapping"}


@contextmanager
def new_delta_partition(folder: Path, root: Path, manifest: dict[str, Any], table: Path) -> Iterator[Path]:
    """As `data.partition.new_partition`, for rows that become visible as one commit to a Delta table.

    Args:
        folder: Where the manifest lies, its name ``cutoff=…`` being the partition's; not in the table's own folders,
            from which a vacuum would remove it.
        root: The store's root.
        manifest: See `new_partition`.
        table: Folder of the Delta table; made with the first commit.

    Raises:
        ConcurrentRunError: Another run is writing the same partition.
        OutputError: The disk is full.
    """
    with staged(folder, root) as staging:
        yield staging.folder
        whole = completed(staging, manifest)
        _replace_rows(table, folder.name.removeprefix(f"{PARTITION}="), data_files(staging.folder), whole)
        folder.mkdir(parents=True, exist_ok=True)
        written = [os.path.relpath(path, folder) for path in delta_files(table) if path.parent.name == folder.name]
        replace_text(folder / MANIFEST, manifest_text(whole | {"files": written}))


def _replace_rows(table: Path, cutoff: str, files: list[Path], manifest: Mapping[str, Any]) -> None:
    deltalake = _deltalake()
    schema = pq.read_schema(files[0]).remove_metadata().append(pa.field(PARTITION, pa.string()))
    is_new = not deltalake.DeltaTable.is_deltatable(str(table))
    table.parent.mkdir(parents=True, exist_ok=True)
    told = {key: str(manifest[key]) for key in ("fingerprint", "created_timestamp") if key in manifest}
    try:
        deltalake.write_deltalake(
            str(table),
            pa.RecordBatchReader.from_batches(schema, _with_cutoff(files, cutoff, schema)),
            partition_by=[PARTITION],
            mode="append" if is_new else "overwrite",
            predicate=None if is_new else f"{PARTITION} = '{cutoff}'",
            # A column that comes with a later cutoff is null in the earlier ones.
            schema_mode="merge",
            writer_properties=deltalake.WriterProperties(compression="ZSTD"),
            commit_properties=deltalake.CommitProperties(
                custom_metadata={f"segmenter.{key}": told[key] for key in told}
            ),
        )
    except deltalake.exceptions.CommitFailedError as error:
        raise ConcurrentRunError(
            f"the rows of {PARTITION} {cutoff} were not committed to {str(table)!r}: {error}",
            hint="another run committed to the same rows meanwhile; run `segmenter publish` again.",
        ) from error


def _with_cutoff(files: list[Path], cutoff: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                columns = [*batch.columns, pa.repeat(pa.scalar(cutoff), batch.num_rows)]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def delta_files(table: str | Path) -> list[Path]:
    """The data files of a Delta table's present snapshot, in name order; they are never changed.

    Raises:
        StoreError: There is no such table on this machine, or it cannot be read as plain files.
    """
    deltalake = _deltalake()
    if "://" in str(table) or not deltalake.DeltaTable.is_deltatable(str(table)):
        raise StoreError(
            f"{str(table)!r} is not a Delta table on this machine's file system.",
            hint='run `segmenter publish` with [store] table_format = "delta".',
        )
    opened = deltalake.DeltaTable(str(table))
    features = set(opened.protocol().reader_features or [])
    if features & _MORE_THAN_FILES:
        raise StoreError(
            f"the Delta table {str(table)!r} uses {sorted(features & _MORE_THAN_FILES)}, so its files alone do not "
            "tell its rows.",
            hint="let only `segmenter publish` write ours; one of yours is read by Feast's stock `duckdb` store.",
        )
    return sorted(Path(uri.removeprefix("file://")) for uri in opened.file_uris())


def _deltalake() -> ModuleType:
    try:
        import deltalake  # noqa: PLC0415 - an extra that most do without
    except ModuleNotFoundError as error:
        raise StoreError(
            "a Delta table needs the package 'deltalake'.", hint='pip install "segmenter-plugin[delta]".'
        ) from error
    return deltalake
