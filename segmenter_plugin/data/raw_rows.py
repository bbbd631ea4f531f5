"""The owner's rows as JSON, one text a row: what quarantine shows of a row that was refused."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, datetime, time
from typing import Any

import pyarrow as pa

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def rows_as_json(rows: pa.Table) -> list[str]:
    """Each row as one JSON object under the owner's own column names, what is absent as null.

    Times are ISO 8601 text, decimals and fractions that are no numbers text as they print, bytes base64.
    """
    if not rows.num_columns:
        return ["{}"] * rows.num_rows
    texts = [
        [f"{_dumps(str(name))}:{text}" for text in _values_as_json(_without_nanoseconds(column))]
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return [f"{{{','.join(row)}}}" for row in zip(*texts, strict=True)]


def _values_as_json(column: pa.ChunkedArray) -> list[str]:
    """Column by column, as most values need no look at what they are."""
    values = column.to_pylist()
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
        return [_dumps(value) for value in values]
    return [_dumps(_readable(value)) for value in values]


def _without_nanoseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Python's own times have microseconds."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_time64(column.type) and column.type.unit == "ns":
        return column.cast(pa.time64("us"), safe=False)
    return column


def _readable(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(name): _readable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
