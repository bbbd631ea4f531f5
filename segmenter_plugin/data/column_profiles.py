"""What a sample tells of each column: numbers, words or times, how many different ones, and how they lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["number", "text", "time", "flag", "other"]
#: How a column holds times: as instants, as wall-clock times without a zone, or as numbers since 1970 UTC.
TimeForm = Literal["instant", "naive", "s", "ms", "us"]

_NUMBER = r"^\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*$"
#: Share of a column's values that must agree with a reading of it; the rest is taken for dirt. Of invoice numbers,
#: more than a few in a thousand begin with a letter: those are text, and their letters mean something.
_AGREEING, _AGREEING_NUMBERS = 0.95, 0.995
_EPOCH_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
#: Seconds since 1970 from 1990 to 2100: outside, a number is hardly a time.
_EPOCH_SECONDS = (631_152_000, 4_102_444_800)
_ZONE_NAME = re.compile(r"\s*(UTC|GMT)$")


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a sample of N rows.

    Attributes:
        name: The owner's name.
        kind: What it holds.
        is_id_like: Whether it can be an identifier: whole numbers, or anything that is stored as text.
        is_whole: Whether its numbers are whole.
        row_count: N.
        null_share: Share of rows without a value.
        distinct_count: Number of different values.
        negative_share: Share of values below 0.
        mean_length: Mean length of a value as text, in characters.
        values: The values of all rows, numbers and strings of a CSV typed, ``(N,)``.
        time_form: How it holds times, or None where it does not.
        times: Its times in microseconds since 1970 UTC (naive ones as if in UTC), without nulls; else None.
    """

    name: str
    kind: Kind
    is_id_like: bool
    is_whole: bool
    row_count: int
    null_share: float
    distinct_count: int
    negative_share: float
    mean_length: float
    values: pa.ChunkedArray
    time_form: TimeForm | None
    times: np.ndarray | None

    @property
    def filled_count(self) -> int:
        """Number of rows with a value."""
        return round(self.row_count * (1 - self.null_share))

    @property
    def unique_share(self) -> float:
        """Different values by rows with a value; 1 where none repeats."""
        return self.distinct_count / max(self.filled_count, 1)

    def most_common(self, count: int) -> list[tuple[str, int]]:
        """The most frequent values as text and how often each occurs."""
        counted = pc.value_counts(self.values.drop_null()).to_pylist()
        pairs = [(str(entry["values"]), int(entry["counts"])) for entry in counted]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:count]


def profile_columns(table: pa.Table) -> list[ColumnProfile]:
    """Profiles of all columns that hold single values; lists, structs and the like are left out."""
    profiles = [_profile(name, table[name]) for name in table.column_names]
    return [profile for profile in profiles if profile.kind != "other"]


def _readable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Large strings and decimals as plain ones; text that holds numbers as numbers."""
    if pa.types.is_decimal(values.type):
        return values.cast(pa.float64())
    if not _is_text(values.type):
        return values
    values = values.cast(pa.string())
    filled = values.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0))
    if len(filled) == 0:
        return values
    matches = pc.match_substring_regex(filled, _NUMBER)
    if pc.mean(matches.cast(pa.float64())).as_py() < _AGREEING_NUMBERS:
        return values
    numeric = pc.if_else(pc.match_substring_regex(values, _NUMBER), values, pa.scalar(None, pa.string()))
    trimmed = pc.utf8_trim_whitespace(numeric)
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        return trimmed.cast(pa.float64())


def _profile(name: str, stored: pa.ChunkedArray) -> ColumnProfile:
    values = _readable(stored)
    kind = _kind(values.type)
    filled = values.drop_null()
    lengths = filled.cast(pa.string()) if kind in {"text", "number"} else None
    numbers = filled.cast(pa.float64(), safe=False).to_numpy() if kind == "number" else np.empty(0)
    is_whole = kind == "number" and bool(np.all(numbers[np.isfinite(numbers)] % 1 == 0))
    time_form, times = _times(filled, kind, numbers)
    return ColumnProfile(
        name=name,
        kind=kind,
        is_id_like=_is_text(stored.type) or is_whole,
        is_whole=is_whole,
        row_count=len(values),
        null_share=1 - len(filled) / max(len(values), 1),
        distinct_count=0 if kind == "other" else pc.count_distinct(filled).as_py(),
        negative_share=float(np.mean(numbers < 0)) if len(numbers) else 0.0,
        mean_length=float(pc.mean(pc.utf8_length(lengths)).as_py() or 0) if lengths is not None else 0.0,
        values=values,
        time_form=time_form,
        times=times,
    )


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if _is_text(kind):
        return "text"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    return "flag" if pa.types.is_boolean(kind) else "other"


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _times(filled: pa.ChunkedArray, kind: Kind, numbers: np.ndarray) -> tuple[TimeForm | None, np.ndarray | None]:
    if len(filled) == 0:
        return None, None
    if kind == "time":
        is_instant = pa.types.is_timestamp(filled.type) and filled.type.tz is not None
        stamps = filled.cast(pa.timestamp("us", filled.type.tz if is_instant else None), safe=False)
        return "instant" if is_instant else "naive", stamps.cast(pa.int64()).to_numpy()
    if kind == "number":
        return _epoch_times(numbers)
    return _text_times(filled) if kind == "text" else (None, None)


def _epoch_times(numbers: np.ndarray) -> tuple[TimeForm | None, np.ndarray | None]:
    forms: tuple[TimeForm, ...] = ("s", "ms", "us")
    for form in forms:
        seconds = numbers / _EPOCH_PER_SECOND[form]
        if np.mean((seconds >= _EPOCH_SECONDS[0]) & (seconds < _EPOCH_SECONDS[1])) >= _AGREEING:
            return form, np.clip(seconds * 1e6, -(2.0**62), 2.0**62).astype(np.int64)
    return None, None


def _text_times(filled: pa.ChunkedArray) -> tuple[TimeForm | None, np.ndarray | None]:
    few = filled.slice(0, 200).to_pylist()
    if sum(parse_text_time(value) is not None for value in few) < _AGREEING * len(few):
        return None, None
    parsed = [parse_text_time(value) for value in filled.to_pylist()]
    known = [time for time in parsed if time is not None]
    zoned = sum(time.tzinfo is not None for time in known) >= 0.5 * len(known)
    stamps = [_microseconds(time) for time in known]
    return "instant" if zoned else "naive", np.array(stamps, dtype=np.int64)


def parse_text_time(value: str) -> datetime | None:
    """The time that an ISO 8601 text means (a zone may be written out as UTC), or None for other text."""
    text = _ZONE_NAME.sub("+00:00", value.strip())
    if len(text) < 8 or not text[:4].isdigit():
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _microseconds(time: datetime) -> int:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    difference = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (difference.days * 86_400 + difference.seconds) * 1_000_000 + difference.microseconds
