"""The aggregates as a matrix: what every baseline sees, and what segments are described with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from segmenter_plugin.config import Config
from segmenter_plugin.errors import SchemaError
from segmenter_plugin.schemas import activity_fields

FloatArray = NDArray[np.float64]


def activity_names(config: Config) -> tuple[str, ...]:
    """Names of the aggregates, in the matrix's column order."""
    return tuple(field.name for field in activity_fields(config))


def activity_matrix(table: pa.Table | pa.RecordBatch, config: Config) -> tuple[FloatArray, tuple[str, ...]]:
    """The aggregates of `schemas.activity_fields` as numbers.

    Args:
        table: Rows of behaviour; further columns are not looked at.
        config: The configuration that the table was built with.

    Returns:
        A matrix (N, C) with NaN for null, and its C column names.

    Raises:
        SchemaError: An aggregate is missing.
    """
    names = activity_names(config)
    missing = [name for name in names if name not in table.schema.names]
    if missing:
        raise SchemaError(
            f"behaviour lacks the aggregates {missing}.",
            hint="it was built with another [windows] or [events]; run `segmenter build` for this cutoff again.",
        )
    matrix = np.empty((table.num_rows, len(names)), dtype=np.float64)
    for place, name in enumerate(names):
        matrix[:, place] = numbers(table.column(name))
    return matrix, names


def numbers(column: pa.Array | pa.ChunkedArray) -> FloatArray:
    """A numeric column as float64 (N,), NaN for null."""
    # Counts stay far below 2**53, so the check that a safe cast makes on every value is not needed.
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
