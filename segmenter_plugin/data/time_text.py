"""Times as text: ISO 8601 with or without a zone, and what people write instead of it.

Well-formed text is read by Arrow, all values at once. The rest is parsed one different value at a time, by a grammar
that contains the other: what a value means never depends on the values around it. Beyond ISO 8601 there may be blanks
around the time, single digits (``2024-5-1 3:07``), no more than a year or a month, more decimals than six (dropped),
and a zone by name (``... UTC``, ``... Europe/Berlin``). A time without a date is no time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.data.event_reasons import Flags

Integers = npt.NDArray[np.int64]

_DAYS = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_CLOCK = r"[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_OFFSETS = r"(?:Z|[+-](?:0[0-9]|1[0-7])(?::?[0-5][0-9])?)"
#: Text that Arrow reads for sure, as it refuses a whole column for one value -> as what. (29 February is left to us.)
_WELL_FORMED = {
    f"^[0-9]{{4}}-{_DAYS}{_CLOCK}{_OFFSETS}$": pa.timestamp("us", tz="UTC"),
    f"^[0-9]{{4}}-{_DAYS}(?:{_CLOCK})?$": pa.timestamp("us"),
}

_TIME = re.compile(
    r"(?P<year>[+-]?\d{4,6})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2})"
    r"(?:[ T](?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:\.(?P<fraction>\d*))?)?)?"
    r"\s*(?P<zone>[A-Za-z+-].*)?)?)?)?",
    re.ASCII,
)
_OFFSET = re.compile(
    r"(?:UTC|GMT|UT)?(?P<sign>[+-])(?:(?P<hh>\d\d)(?P<mm>\d\d)(?P<ss>\d\d)?|(?P<h>\d{1,2})(?::(?P<m>\d{1,2})(?::(?P<s>\d\d))?)?)",
    re.ASCII,
)
#: Beyond the end of any text.
_END = 2**31 - 1
_UTC_NAMES = ("Z", "UTC", "GMT", "UT")
#: Blanks and control characters, as they stand around text in exported files.
_BLANK = "".join(map(chr, [*range(0x21), 0x7F]))

#: The calendar repeats after 400 years.
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class WallTimes:
    """A column of text, read.

    Attributes:
        micros: (N,) microseconds since 1970: of the instant in UTC where a zone is named, else of the wall clock's
            time as if it were UTC; 0 where there is none.
        is_zoned: (N,) whether the text names its zone.
        is_unreadable: (N,) whether there is text that is no time; None where all can be read.
    """

    micros: Integers
    is_zoned: Flags
    is_unreadable: Flags | None


def read_wall_times(text: pa.StringArray) -> WallTimes:
    """Read a column of times."""
    micros, is_zoned = np.zeros(len(text), np.int64), np.zeros(len(text), np.bool_)
    places, left = np.flatnonzero(text.is_valid()), _with_short_zone(text).drop_null()
    for pattern, kind in _WELL_FORMED.items():
        is_read = pc.match_substring_regex(left, pattern)
        found = places[np.asarray(is_read)]
        micros[found] = _integers((left if len(found) == len(left) else left.filter(is_read)).cast(kind))
        is_zoned[found] = kind.tz is not None
        if len(found) == len(left):
            return WallTimes(micros, is_zoned, None)
        places, left = places[~np.asarray(is_read)], left.filter(pc.invert(is_read))
    coded = left.dictionary_encode()
    parsed, codes = [parse_time_text(entry) for entry in coded.dictionary.to_pylist()], coded.indices.to_numpy()
    micros[places] = np.array([0 if one is None else one[0] for one in parsed], np.int64)[codes]
    is_zoned[places] = np.array([one is not None and one[1] for one in parsed], np.bool_)[codes]
    is_unreadable = np.zeros(len(text), np.bool_)
    is_unreadable[places] = np.array([one is None for one in parsed], np.bool_)[codes]
    return WallTimes(micros, is_zoned, is_unreadable if is_unreadable.any() else None)


def parse_time_text(text: str) -> tuple[int, bool] | None:
    """One time.

    Returns:
        Its microseconds and whether it names its zone, as in `WallTimes`; None where the text is no time.

    Example:
        >>> parse_time_text(" 1970-1-1 1:00 Europe/Berlin")
        (0, True)
        >>> parse_time_text("1970-01-01T00:00:02.5")
        (2500000, False)
    """
    match = _TIME.fullmatch(text.strip(_BLANK))
    if match is None:
        return None
    year, month, day = int(match["year"]), int(match["month"] or 1), int(match["day"] or 1)
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    fraction = int((match["fraction"] or "")[:6].ljust(6, "0"))
    try:
        # A year of the same calendar that Python's own dates reach.
        within = datetime(2000 + year % _CYCLE_YEARS, month, day, hour, minute, second, fraction, tzinfo=UTC)
    except ValueError:
        return None
    days = within.toordinal() - _EPOCH_ORDINAL + (year // _CYCLE_YEARS - 5) * _CYCLE_DAYS
    seconds = (hour * 60 + minute) * 60 + second
    micros = days * MICROS_PER_DAY + seconds * 1_000_000 + fraction
    if match["zone"] is not None:
        zone = _zone(match["zone"])
        if zone is None:
            return None
        near = within.replace(year=year, tzinfo=zone) if 1 <= year <= 9999 else within.replace(tzinfo=zone)
        micros -= (near.utcoffset() or timedelta(0)) // timedelta(microseconds=1)
    return (micros, match["zone"] is not None) if abs(micros) < 2**63 else None


@lru_cache(maxsize=4096)
def _zone(name: str) -> tzinfo | None:
    """A zone by what stands after a time; None where there is none of that name."""
    if name in _UTC_NAMES:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        hours, minutes, seconds = (
            int(offset[two] or offset[one] or 0) for two, one in (("hh", "h"), ("mm", "m"), ("ss", "s"))
        )
        if hours > 23 or minutes > 59 or seconds > 59:
            return None
        size = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        return timezone(-size if offset["sign"] == "-" else size)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a folder of zones
        return None


def _with_short_zone(text: pa.StringArray) -> pa.StringArray:
    """The same times with the most common name of a zone as Arrow reads it."""
    is_named = pc.ends_with(text, " UTC")
    if not pc.any(is_named).as_py():
        return text
    return pc.if_else(is_named, pc.binary_replace_slice(text, start=-4, stop=_END, replacement="Z"), text)


def _integers(times: pa.TimestampArray) -> Integers:
    return np.asarray(times.view(pa.int64()).fill_null(0))
