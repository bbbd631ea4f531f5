"""The owner's rows as JSON, one text a row: what quarantine shows of a row that was refused."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, datetime, time
from typing import Any

import pyarrow as pa


def rows_as_json(rows: pa.Table) -> list[str]:
    """Each row as one JSON object under the owner's own column names, what is absent as null.

    Times are ISO 8601 text, decimals and fractions that are no numbers text as they print, bytes base64.
    """
    plain = pa.table(
        [_without_nanoseconds(column) for column in rows.columns], names=[str(name) for name in rows.column_names]
    )
    return [json.dumps(_readable(row), separators=(",", ":"), ensure_ascii=False) for row in plain.to_pylist()]


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
