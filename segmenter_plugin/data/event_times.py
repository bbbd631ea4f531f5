"""The owner's times as instants: from timestamps, dates, epoch numbers and ISO 8601 text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.config import EventsConfig
from segmenter_plugin.data.event_numbers import is_text, read_numbers
from segmenter_plugin.data.event_reasons import Flags, null_flags
from segmenter_plugin.data.time_text import read_wall_times
from segmenter_plugin.errors import EventsError

Integers = npt.NDArray[np.int64]

_MICROS_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
#: Year 9999 in microseconds: further ones overflow on the way, and are absurd anyway.
_FURTHEST_MICROS = 253_402_300_800_000_000


@dataclass(frozen=True)
class Times:
    """One column of times, read.

    Attributes:
        instants: (N,) microseconds since 1970 UTC; meaningless where one of the flags is set.
        is_missing: (N,) where the owner's value is absent; None where no such row, as with all flags.
        is_naive: (N,) where the value can be read but names no zone, and the configuration neither.
        is_out_of_range: (N,) where it is a number that no calendar reaches.
        is_unreadable: (N,) where it is no time.
    """

    instants: Integers
    is_missing: Flags | None = None
    is_naive: Flags | None = None
    is_out_of_range: Flags | None = None
    is_unreadable: Flags | None = None


def check_time_type(kind: pa.DataType, name: str, config: EventsConfig) -> None:
    """Refuse a column that `read_times` cannot read.

    Args:
        kind: Its type.
        name: Its name, for messages.
        config: `timezone` is what naive values are meant in, `timestamp_unit` what numbers count since 1970 UTC.

    Raises:
        EventsError: The type holds no times; the times are naive and no zone is named; or they are numbers and no
            unit is named.
    """
    if pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None):
        if config.timezone is None:
            raise EventsError(
                f"the times in column {name!r} are naive ({kind}): they name no zone.",
                hint='say which zone they are meant in, for example [events] timezone = "Europe/Berlin".',
            )
    elif _is_number(kind):
        if config.timestamp_unit is None:
            raise EventsError(
                f"the times in column {name!r} are numbers ({kind}), and nothing says in what unit.",
                hint='set [events] timestamp_unit = "s", "ms" or "us" (since 1970 in UTC).',
            )
    elif not (pa.types.is_timestamp(kind) or pa.types.is_null(kind) or is_text(kind)):
        raise EventsError(
            f"column {name!r} has type {kind}, which holds no times; allowed are timestamp, date, epoch numbers and "
            "ISO 8601 text.",
            hint="map another column to event_timestamp.",
        )


def read_times(column: pa.Array, config: EventsConfig) -> Times:
    """Read a column of times of a type that `check_time_type` lets pass."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return read_times(column.dictionary_decode(), config)
    if pa.types.is_null(kind):
        return Times(np.zeros(len(column), np.int64), is_missing=np.ones(len(column), np.bool_))
    if is_text(kind) and config.timestamp_unit is None:
        return _from_text(column.cast(pa.string()), config)
    if is_text(kind) or _is_number(kind):
        return _from_numbers(column, str(config.timestamp_unit))
    micros = _micros(column)
    if not (pa.types.is_timestamp(kind) and kind.tz is not None):
        micros = in_zone(micros, str(config.timezone))
    return Times(micros, is_missing=null_flags(column))


def in_zone(wall: Integers, zone: str) -> Integers:
    """Times of a zone's wall clock as instants.

    Where a clock was put back a time comes twice, and the earlier one is taken. Where it was put forward a time is
    skipped; it is read as if the clock had not been touched yet.

    Args:
        wall: (N,) microseconds since 1970 on the wall clock.
        zone: IANA name.

    Returns:
        (N,) microseconds since 1970 UTC.
    """
    if zone == "UTC":
        return wall
    naive = pa.array(np.clip(wall, -_FURTHEST_MICROS, _FURTHEST_MICROS)).view(pa.timestamp("us"))
    try:
        return _integers(pc.assume_timezone(naive, zone, ambiguous="earliest"))
    except pa.ArrowInvalid:
        # Arrow gives the last moment before a skip; what the clock was ahead by then is what a skipped time needs.
        before = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest")
        ahead = _integers(pc.local_timestamp(before)) - _integers(before)
        return _integers(naive) - ahead


def _micros(column: pa.Array) -> Integers:
    """Microseconds of timestamps and dates, 0 where null; what would overflow is moved to a time absurd as well."""
    if pa.types.is_date(column.type):
        ticks, scale = _integers(column.cast(pa.date32()).view(pa.int32()).cast(pa.int64())), MICROS_PER_DAY
    else:
        ticks, unit = _integers(column), column.type.unit
        if unit == "ns":
            return ticks // 1000
        scale = _MICROS_PER_UNIT[unit]
    furthest = _FURTHEST_MICROS // scale
    return ticks if scale == 1 else np.clip(ticks, -furthest, furthest) * scale


def _from_text(text: pa.StringArray, config: EventsConfig) -> Times:
    found = read_wall_times(text)
    is_missing, is_unreadable = null_flags(text), found.is_unreadable
    if is_unreadable is not None:
        is_blank = pc.equal(pc.utf8_trim(text, characters=" "), "").fill_null(True).to_numpy(zero_copy_only=False)
        is_missing, is_unreadable = is_blank, is_unreadable & ~is_blank
    is_naive = ~found.is_zoned
    if not is_naive.any():
        return Times(found.micros, is_missing=is_missing, is_unreadable=is_unreadable)
    if config.timezone is None:
        for absent in (is_missing, is_unreadable):
            if absent is not None:
                is_naive &= ~absent
        return Times(found.micros, is_missing=is_missing, is_naive=is_naive, is_unreadable=is_unreadable)
    instants = np.where(is_naive, in_zone(found.micros, config.timezone), found.micros)
    return Times(instants, is_missing=is_missing, is_unreadable=is_unreadable)


def _from_numbers(column: pa.Array, unit: str) -> Times:
    """Epoch numbers; whole ones stay whole: microseconds of today need 51 bits, so a double would do, but only just."""
    scale = _MICROS_PER_UNIT[unit]
    furthest = _FURTHEST_MICROS // scale
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        numbers, is_missing = _integers(column.cast(pa.int64())), null_flags(column)
        is_beyond = np.abs(numbers.astype(np.float64)) >= furthest
        return Times(np.where(is_beyond, 0, numbers) * scale, is_missing=is_missing, is_out_of_range=is_beyond)
    read = read_numbers(column)
    is_beyond = ~(np.abs(read.values) < furthest)
    micros = np.where(is_beyond, 0.0, read.values) * scale
    size = np.abs(micros)
    whole = np.floor(size)
    rounded = (whole + (size - whole >= 0.5)) * np.sign(micros)
    absent = [flags for flags in (read.is_missing, read.is_unreadable) if flags is not None]
    for flags in absent:
        is_beyond &= ~flags
    return Times(
        rounded.astype(np.int64),
        is_missing=read.is_missing,
        is_out_of_range=is_beyond,
        is_unreadable=read.is_unreadable,
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _integers(column: pa.Array) -> Integers:
    """(N,) whole numbers, or what timestamps count; 0 where null."""
    return np.asarray(column.view(pa.int64()).fill_null(0))
