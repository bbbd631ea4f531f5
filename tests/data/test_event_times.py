"""The owner's times as instants."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.event_times import check_time_type, in_zone, read_times
from segmenter_plugin.errors import EventsError
from segmenter_plugin.schemas import TIMESTAMP

MOMENT = datetime(2024, 7, 1, 10, 30, 15, 123456, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())
FLAGS = ("is_missing", "is_naive", "is_out_of_range", "is_unreadable")


def config_of(**events):
    columns = {"user_id": "u", "item_id": "i", "event_timestamp": "at"}
    events = {"path": "x", "columns": columns, "constant_event_type": "purchase"} | events
    return parse_config({"events": events}).events


def instants(values, **events):
    """Instants, or the name of the flag that is set."""
    column = values if isinstance(values, pa.Array) else pa.array(values)
    check_time_type(column.type, "at", config_of(**events))
    times = read_times(column, config_of(**events))
    found = pa.array(times.instants).view(TIMESTAMP).to_pylist()
    for name in FLAGS:
        flags = getattr(times, name)
        if flags is not None:
            found = [name if flag else value for flag, value in zip(flags, found, strict=True)]
    return found


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_stay(unit):
    moment = MOMENT.replace(microsecond=0)
    column = pa.array([moment, None, datetime(1960, 1, 1, tzinfo=UTC)], pa.timestamp(unit, tz="America/New_York"))
    assert instants(column) == [moment, "is_missing", datetime(1960, 1, 1, tzinfo=UTC)]


def test_nanoseconds_are_cut_down():
    column = pa.array([1_999, -1], pa.int64()).view(pa.timestamp("ns", tz="UTC"))
    assert read_times(column, config_of()).instants.tolist() == [1, -1]


@pytest.mark.parametrize("kind", [pa.timestamp("s", tz="UTC"), pa.timestamp("ms", tz="UTC")])
def test_what_would_overflow_stays_absurd(kind):
    found = read_times(pa.array([2**62, -(2**62)]).view(kind), config_of()).instants
    assert found[0] > datetime.max.replace(tzinfo=UTC).timestamp() * 1e6 - 1e6
    assert found[1] < 0


def test_naive_times_are_meant_in_the_named_zone():
    # 29 October 2023, 02:30 comes twice in Berlin: the earlier one is taken. 31 March 2024, 02:30 never comes.
    wall = [datetime(2024, 7, 1, 12), datetime(2023, 10, 29, 2, 30), datetime(2024, 3, 31, 2, 30)]  # noqa: DTZ001
    expected = [datetime(2024, 7, 1, 10), datetime(2023, 10, 29, 0, 30), datetime(2024, 3, 31, 1, 30)]  # noqa: DTZ001
    expected = [moment.replace(tzinfo=UTC) for moment in expected]
    assert instants(pa.array(wall, pa.timestamp("us")), timezone="Europe/Berlin") == expected
    assert instants(pa.array(wall[:2], pa.timestamp("ms")), timezone="Europe/Berlin") == expected[:2]
    assert instants([f"{moment:%Y-%m-%d %H:%M}" for moment in wall], timezone="Europe/Berlin") == expected
    assert instants([f"{wall[0]}", f"{wall[1]}Z"], timezone="Europe/Berlin") == [
        expected[0],
        wall[1].replace(tzinfo=UTC),
    ]


def test_days_begin_in_the_named_zone():
    expected = datetime(2024, 6, 30, 22, tzinfo=UTC)
    assert instants([date(2024, 7, 1)], timezone="Europe/Berlin") == [expected]
    assert instants(pa.array([date(2024, 7, 1)], pa.date64()), timezone="Europe/Berlin") == [expected]
    assert instants(["2024-07-01"], timezone="Europe/Berlin") == [expected]


@given(
    st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2037, 1, 1)), min_size=1),  # noqa: DTZ001
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_a_wall_clock_is_read_as_python_reads_it(walls, name):
    hours = [wall.replace(minute=30, second=0) for wall in walls] + walls
    clock = np.array(hours, "datetime64[us]").astype(np.int64)
    expected = [wall.replace(tzinfo=ZoneInfo(name)).astimezone(UTC) for wall in hours]
    assert pa.array(in_zone(clock, name)).view(TIMESTAMP).to_pylist() == expected


@pytest.mark.parametrize("name", ["Europe/Berlin", "Australia/Lord_Howe"])
def test_every_hour_of_a_year_is_read_as_python_reads_it(name):
    walls = [datetime(2024, 1, 1) + timedelta(minutes=15 * step) for step in range(366 * 96)]  # noqa: DTZ001
    clock = np.array(walls, "datetime64[us]").astype(np.int64)
    expected = [wall.replace(tzinfo=ZoneInfo(name)).astimezone(UTC) for wall in walls]
    assert pa.array(in_zone(clock, name)).view(TIMESTAMP).to_pylist() == expected


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("ns"), pa.date32()])
def test_naive_columns_need_a_zone(kind):
    with pytest.raises(EventsError, match="'at' are naive") as caught:
        check_time_type(kind, "at", config_of())
    assert "[events] timezone" in caught.value.hint


def test_text_without_zone():
    texts = ["2024-07-01T10:30:15", "2024-07-01", "", " ", None, "soon", "2024-07-01T10:30:15Z"]
    naive, moment = "is_naive", MOMENT.replace(microsecond=0)
    assert instants(texts) == [naive, naive, *["is_missing"] * 3, "is_unreadable", moment]
    assert instants(texts, timezone="UTC")[2:] == [*["is_missing"] * 3, "is_unreadable", moment]
    assert instants(pa.array(texts).dictionary_encode()) == instants(texts)
    assert instants(pa.array(texts, pa.large_string())) == instants(texts)


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([SECONDS, -1], "s", [MOMENT.replace(microsecond=0), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)]),
        (pa.array([SECONDS], pa.int32()), "s", [MOMENT.replace(microsecond=0)]),
        (pa.array([SECONDS], pa.uint64()), "s", [MOMENT.replace(microsecond=0)]),
        ([SECONDS * 1000 + 123], "ms", [MOMENT.replace(microsecond=123000)]),
        ([SECONDS * 1_000_000 + 123456], "us", [MOMENT]),
        ([SECONDS + 0.25, float("nan")], "s", [MOMENT.replace(microsecond=250000), "is_out_of_range"]),
        ([Decimal(SECONDS)], "s", [MOMENT.replace(microsecond=0)]),
        ([str(SECONDS), "", "x"], "s", [MOMENT.replace(microsecond=0), "is_missing", "is_unreadable"]),
        ([2**62, -(2**62), None], "s", ["is_out_of_range", "is_out_of_range", "is_missing"]),
        ([1e300, -1e300, None], "s", ["is_out_of_range", "is_out_of_range", "is_missing"]),
        (["1e300", "-inf"], "us", ["is_out_of_range", "is_out_of_range"]),
    ],
)
def test_epoch_numbers(values, unit, expected):
    assert instants(values, timestamp_unit=unit) == expected


def test_numbers_need_a_unit():
    with pytest.raises(EventsError, match=r"'at' are numbers \(int64\)") as caught:
        check_time_type(pa.int64(), "at", config_of())
    assert "timestamp_unit" in caught.value.hint


def test_other_types_hold_no_times():
    with pytest.raises(EventsError, match="type bool, which holds no times"):
        check_time_type(pa.bool_(), "at", config_of())


def test_a_column_of_nulls_alone_is_missing():
    assert instants(pa.nulls(2)) == ["is_missing"] * 2
