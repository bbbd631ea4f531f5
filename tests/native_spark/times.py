"""The owner's times as instants: from timestamps, dates, epoch numbers and ISO 8601 text."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention
from pyspark.sql.types import (
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.errors import EventsError

_MICROS_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
#: Year 9999 in microseconds: further ones overflow on the way, and are absurd anyway.
_FURTHEST_MICROS = 253_402_300_800_000_000
#: Text that says what zone it is in: "...Z", "...+02:00", "... UTC", "... Europe/Berlin".
_ZONED_TEXT = r"(?i)(Z|UTC|GMT|[0-9]\s?[+-][0-9]{1,2}:?([0-9]{2})?|[A-Z]+/[A-Z_]+)$"
_TIMED_TEXT = r"[0-9]:[0-9]"


@dataclass(frozen=True)
class ParsedTime:
    """One column of times, read.

    Attributes:
        instant: Timestamp; null where there is none.
        is_missing: Whether the owner's value is absent.
        is_naive: Whether the value can be read but names no zone, and the configuration neither.
        is_out_of_range: Whether the value is a number that no calendar reaches.
    """

    instant: Column
    is_missing: Column
    is_naive: Column
    is_out_of_range: Column


def parse_times(column: Column, name: str, kind: DataType, config: EventsConfig) -> ParsedTime:
    """Read a column of times.

    Args:
        column: The owner's column.
        name: Its name, for messages.
        kind: Its type.
        config: `timezone` is what naive values are meant in, `timestamp_unit` what numbers count since 1970 UTC.

    Raises:
        EventsError: The type holds no times; the times are naive and no zone is named; or they are numbers and no
            unit is named.
    """
    never = F.lit(False)
    if isinstance(kind, TimestampType):
        return ParsedTime(column, column.isNull(), never, never)
    if isinstance(kind, (TimestampNTZType, DateType)):
        if config.timezone is None:
            raise EventsError(
                f"the times in column {name!r} are naive ({kind.simpleString()}): they name no zone.",
                hint='say which zone they are meant in, for example [events] timezone = "Europe/Berlin".',
            )
        return ParsedTime(_in_zone(column.cast("timestamp"), config), column.isNull(), never, never)
    if isinstance(kind, StringType) and config.timestamp_unit is None:
        return _from_text(column, config)
    if isinstance(kind, (StringType, IntegralType, DoubleType, FloatType, DecimalType)):
        return _from_number(column, name, kind, config)
    raise EventsError(
        f"column {name!r} has type {kind.simpleString()}, which holds no times; allowed are timestamp, date, epoch "
        "numbers and ISO 8601 text.",
        hint="map another column to event_timestamp.",
    )


def _in_zone(wall: Column, config: EventsConfig) -> Column:
    """Wall-clock time, held as if it were UTC, as the instant it means (the earlier one where a clock was put back)."""
    return wall if config.timezone is None else F.to_utc_timestamp(wall, config.timezone)


def _from_text(column: Column, config: EventsConfig) -> ParsedTime:
    text = F.trim(column)
    parsed = F.try_to_timestamp(text)
    is_zoned = text.rlike(_ZONED_TEXT) & text.rlike(_TIMED_TEXT)
    is_naive = parsed.isNotNull() & ~is_zoned & F.lit(config.timezone is None)
    instant = F.when(is_zoned, parsed).otherwise(_in_zone(parsed, config))
    return ParsedTime(instant, column.isNull() | (text == ""), is_naive, F.lit(False))


def _from_number(column: Column, name: str, kind: DataType, config: EventsConfig) -> ParsedTime:
    if config.timestamp_unit is None:
        raise EventsError(
            f"the times in column {name!r} are numbers ({kind.simpleString()}), and nothing says in what unit.",
            hint='set [events] timestamp_unit = "s", "ms" or "us" (since 1970 in UTC).',
        )
    scale = _MICROS_PER_UNIT[config.timestamp_unit]
    # Whole numbers stay whole: microseconds of today need 51 bits, so a double would do, but only just.
    number = column if isinstance(kind, IntegralType) else column.try_cast("double")
    is_reachable = F.abs(number.cast("double")) < F.lit(float(_FURTHEST_MICROS // scale))
    micros = F.when(is_reachable, number).cast("long") * F.lit(scale)
    if not isinstance(kind, IntegralType):
        micros = F.round(F.when(is_reachable, number) * F.lit(float(scale))).cast("long")
    is_missing = column.isNull() | (F.trim(column) == "" if isinstance(kind, StringType) else F.lit(False))
    is_out_of_range = number.isNotNull() & ~is_reachable
    return ParsedTime(F.timestamp_micros(micros), is_missing, F.lit(False), is_out_of_range)
