"""Embeddings as aligned array files: the exchange format of the RecSys Challenge 2025."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

from segmenter_plugin.columns import Columns
from segmenter_plugin.errors import StoreError

#: Largest finite float16.
FLOAT16_MAX = 65_504.0

_CLIENT_IDS = pa.schema([pa.field("client_id", pa.string(), nullable=False)])


def write_client_ids(batches: Iterable[pa.RecordBatch], count: int, user_type: pa.DataType, folder: Path) -> None:
    """Write ``client_ids.npy`` (N,) int64, or ``client_ids.parquet`` for string ids.

    Args:
        batches: Hold ``user_id``; one is in memory at a time.
        count: Rows of all batches together, N.
        user_type: int64 or string.
        folder: Exists.
    """
    if user_type != pa.int64():
        with pq.ParquetWriter(folder / "client_ids.parquet", _CLIENT_IDS) as writer:
            for batch in batches:
                users = batch.column(Columns.user_id).cast(pa.string())
                writer.write_batch(pa.record_batch([users], schema=_CLIENT_IDS))
        return
    client_ids = open_memmap(folder / "client_ids.npy", "w+", np.int64, (count,))
    start = 0
    for batch in batches:
        client_ids[start : start + batch.num_rows] = batch.column(Columns.user_id).to_numpy(zero_copy_only=False)
        start += batch.num_rows
    client_ids.flush()


def write_embeddings(batches: Iterable[pa.RecordBatch], count: int, folder: Path) -> int:
    """Write ``embeddings.npy``, (N, D) float16.

    Args:
        batches: Hold ``embedding``; written in this order, one in memory at a time.
        count: Rows of all batches together, N.
        folder: Exists.

    Returns:
        D.

    Raises:
        StoreError: There are no rows, embeddings differ in length, or a value does not fit float16.
    """
    embeddings: np.memmap | None = None
    start = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        matrix = embedding_matrix(batch.column(Columns.embedding))
        if embeddings is None:
            embeddings = open_memmap(folder / "embeddings.npy", "w+", np.float16, (count, matrix.shape[1]))
        if matrix.shape[1] != embeddings.shape[1]:
            raise _length_error(embeddings.shape[1], matrix.shape[1])
        embeddings[start : start + len(matrix)] = _float16(matrix)
        start += len(matrix)
    if embeddings is None:
        raise StoreError("there are no embeddings to export.", hint="run `segmenter score` for this cutoff.")
    embeddings.flush()
    return int(embeddings.shape[1])


def embedding_matrix(column: pa.ListArray) -> np.ndarray:
    """A list column as (rows, D) float32.

    Raises:
        StoreError: A row is null, or rows differ in length.
    """
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or lengths[0] is None:
        raise _length_error(*lengths)
    return pc.list_flatten(column).to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _float16(matrix: np.ndarray) -> np.ndarray:
    largest = np.abs(matrix).max(initial=0.0)
    if not largest <= FLOAT16_MAX:  # also true of NaN
        raise StoreError(
            f"an embedding value of {largest} does not fit float16, which ends at {FLOAT16_MAX:.0f}.",
            hint="the weights have diverged: look at the training loss.",
        )
    return matrix.astype(np.float16)


def _length_error(*lengths: int | None) -> StoreError:
    return StoreError(
        f"embeddings of the lengths {sorted(set(lengths), key=str)} stand in one partition; one length is expected.",
        hint="run `segmenter score` again for this cutoff.",
    )
