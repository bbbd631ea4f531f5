"""The only place that reads the wall clock, and how times are written and parsed."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from segmenter_plugin.errors import ConfigError, CutoffError

#: A day of 24 hours, in the unit of our timestamps.
MICROS_PER_DAY = 86_400_000_000


def publication_time(created_at: str | None = None) -> datetime:
    """The ``created_timestamp`` of one publish: now, or the given time.

    Args:
        created_at: ISO 8601 with a zone; overrides the wall clock so that a rerun can be exact.

    Returns:
        A UTC time with microseconds.

    Raises:
        CutoffError: ``created_at`` is not a time or names no zone.
    """
    return datetime.now(tz=UTC) if created_at is None else parse_time(created_at)


def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name.

    Raises:
        ConfigError: There is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"timezone = {name!r} is not a known zone.",
            hint='give an IANA name such as "UTC", "Europe/Berlin" or "America/New_York".',
        ) from error


def parse_time(value: str | datetime, timezone: str | None = None) -> datetime:
    """A point in time in UTC from ISO 8601 text.

    Args:
        value: ``2017-10-01``, ``2017-10-01T06:00``, ``2017-10-01T06:00:00+02:00`` or a datetime.
        timezone: IANA zone that a value without an offset is meant in.

    Returns:
        The same instant in UTC.

    Raises:
        CutoffError: Not a time, or a naive one where no zone is named.

    Example:
        >>> parse_time("2017-10-01", "America/New_York").isoformat()
        '2017-10-01T04:00:00+00:00'
    """
    if isinstance(value, datetime):
        parsed = value
    else:
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise CutoffError(
                f"{value!r} is not a time.", hint="write it as 2017-10-01 or 2017-10-01T06:00:00+00:00."
            ) from error
    if parsed.tzinfo is None:
        if timezone is None:
            raise CutoffError(
                f"the time {value!r} names no zone, so it could mean any of 38 hours.",
                hint="append an offset such as +00:00 (or Z), or set [events] timezone in segmenter.toml.",
            )
        parsed = parsed.replace(tzinfo=zone(timezone))
    return parsed.astimezone(UTC)


def cutoff_key(cutoff: datetime) -> str:
    """A cutoff as the name of a partition folder.

    Example:
        >>> cutoff_key(datetime(2017, 10, 1, tzinfo=UTC))
        'cutoff=20171001T000000Z'
    """
    return f"cutoff={cutoff.astimezone(UTC):%Y%m%dT%H%M%SZ}"


_KEY = re.compile(r"cutoff=(\d{8}T\d{6})Z")


def parse_cutoff_key(name: str) -> datetime | None:
    """The cutoff that a partition folder's name tells, or None for any other name."""
    match = _KEY.fullmatch(name)
    return None if match is None else datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def nanos_now() -> int:
    """Nanoseconds since the epoch: what the age of a served row is held against."""
    return time.time_ns()
