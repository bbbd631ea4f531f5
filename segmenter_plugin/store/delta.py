"""Published rows as Delta tables: a publish is one commit, and a reader has one snapshot.

The table of a view lies in ``features_delta/<view>``, partitioned by ``cutoff``. Each commit replaces the rows of one.
What was replaced stays there, for who is reading it, until the owner vacuums the table. In a bucket a commit is one
conditional PUT, which is deltalake's own affair; credentials and region come from the environment, as it reads it.
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
def new_delta_partition(
    folder: Path, root: Path, manifest: dict[str, Any], table: Path | str, endpoint: str | None = None
) -> Iterator[Path]:
    """As `data.partition.new_partition`, for rows that become visible as one commit to a Delta table.

    Args:
        folder: Where the manifest lies, its name ``cutoff=…`` being the partition's; not in the table's own folders,
            from which a vacuum would remove it.
        root: The store's root.
        manifest: See `new_partition`.
        table: Folder or ``s3://`` address of the Delta table; made with the first commit.
        endpoint: ``https://host:port`` of a store that is not Amazon's.

    Raises:
        ConcurrentRunError: Another run is writing the same partition.
        OutputError: The disk is full.
    """
    with staged(folder, root) as staging:
        yield staging.folder
        whole = completed(staging, manifest)
        cutoff = folder.name.removeprefix(f"{PARTITION}=")
        _replace_rows(str(table), cutoff, data_files(staging.folder), whole, storage_options(endpoint))
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / MANIFEST, manifest_text(whole | _written(table, folder, endpoint)))


def _written(table: Path | str, folder: Path, endpoint: str | None) -> dict[str, list[str]]:
    """What a manifest says of the files: those on this machine from its own place, those in a bucket by address."""
    names = [name for name in delta_files(table, endpoint) if name.split("/")[-2] == folder.name]
    if is_remote(table):
        return {"objects": names}
    return {"files": [os.path.relpath(name, folder) for name in names]}


def _replace_rows(
    table: str, cutoff: str, files: list[Path], manifest: Mapping[str, Any], options: dict[str, str]
) -> None:
    deltalake = _deltalake()
    schema = pq.read_schema(files[0]).remove_metadata().append(pa.field(PARTITION, pa.string()))
    is_new = not deltalake.DeltaTable.is_deltatable(table, options)
    if not is_remote(table):
        Path(table).parent.mkdir(parents=True, exist_ok=True)
    told = {key: str(manifest[key]) for key in ("fingerprint", "created_timestamp") if key in manifest}
    try:
        deltalake.write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(schema, _with_cutoff(files, cutoff, schema)),
            partition_by=[PARTITION],
            mode="append" if is_new else "overwrite",
            predicate=None if is_new else f"{PARTITION} = '{cutoff}'",
            storage_options=options,
            # A column that comes with a later cutoff is null in the earlier ones.
            schema_mode="merge",
            writer_properties=deltalake.WriterProperties(compression="ZSTD"),
            commit_properties=deltalake.CommitProperties(
                custom_metadata={f"segmenter.{key}": told[key] for key in told}
            ),
        )
    except deltalake.exceptions.CommitFailedError as error:
        raise ConcurrentRunError(
            f"the rows of {PARTITION} {cutoff} were not committed to {table!r}: {error}",
            hint="another run committed to the same rows meanwhile; run `segmenter publish` again.",
        ) from error


def _with_cutoff(files: list[Path], cutoff: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                columns = [*batch.columns, pa.repeat(pa.scalar(cutoff), batch.num_rows)]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def is_remote(table: Path | str) -> bool:
    """Whether a table lies in a bucket."""
    return "://" in str(table)


def storage_options(endpoint: str | None, credentials: Mapping[str, str] | None = None) -> dict[str, str]:
    """How deltalake reaches a bucket, beyond what the environment says.

    Args:
        endpoint: ``https://host:port`` of a store that is not Amazon's.
        credentials: Under the names of the environment's variables.
    """
    options = dict(credentials or {})
    if endpoint:
        options |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower()}
    return options


def delta_files(
    table: str | Path, endpoint: str | None = None, credentials: Mapping[str, str] | None = None
) -> list[str]:
    """The data files of a Delta table's present snapshot, in name order; they are never changed.

    Args:
        table: Its folder, or its address in a bucket.
        endpoint: See `storage_options`.
        credentials: Likewise.

    Returns:
        Paths; of a table in a bucket addresses, ``s3://...``.

    Raises:
        StoreError: There is no such table, or it cannot be read as plain files.
    """
    deltalake = _deltalake()
    options = storage_options(endpoint, credentials)
    if not deltalake.DeltaTable.is_deltatable(str(table), options):
        raise StoreError(
            f"{str(table)!r} is not a Delta table.",
            hint='run `segmenter publish` with [store] table_format = "delta".',
        )
    opened = deltalake.DeltaTable(str(table), storage_options=options)
    features = set(opened.protocol().reader_features or [])
    if features & _MORE_THAN_FILES:
        raise StoreError(
            f"the Delta table {str(table)!r} uses {sorted(features & _MORE_THAN_FILES)}, so its files alone do not "
            "tell its rows.",
            hint="let only `segmenter publish` write ours; one of yours is read by Feast's stock `duckdb` store.",
        )
    return sorted(uri.removeprefix("file://") for uri in opened.file_uris())


def _deltalake() -> ModuleType:
    try:
        import deltalake  # noqa: PLC0415 - an extra that most do without
    except ModuleNotFoundError as error:
        raise StoreError(
            "a Delta table needs the package 'deltalake'.", hint='pip install "segmenter-plugin[delta]".'
        ) from error
    return deltalake
