"""The owner's times as instants."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from pyspark.sql import functions as F  # noqa: N812

from native_spark.times import parse_times
from segmenter_plugin.config import parse_config
from segmenter_plugin.errors import EventsError

MOMENT = datetime(2024, 7, 1, 10, 30, 15, 123456, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


def config_of(**events):
    columns = {"user_id": "u", "item_id": "i", "event_timestamp": "at"}
    events = {"path": "x", "columns": columns, "constant_event_type": "purchase"} | events
    return parse_config({"events": events}).events


def parsed(spark, values, **events):
    table = pa.table({"at": values})
    frame = spark.createDataFrame(table)
    if table.schema.field("at").type == pa.timestamp("us"):
        frame = frame.select(F.col("at").cast("timestamp_ntz"))  # as Spark reads it from Parquet
    time = parse_times(F.col("at"), "at", frame.schema["at"].dataType, config_of(**events))
    flags = [time.instant, time.is_missing, time.is_naive, time.is_out_of_range]
    frame = frame.select(*(flag.alias(str(number)) for number, flag in enumerate(flags)))
    return [tuple(row.values()) for row in frame.toArrow().to_pylist()]


def instants(spark, values, **events):
    return [row[0] for row in parsed(spark, values, **events)]


def test_instants_stay(spark):
    assert instants(spark, pa.array([MOMENT], pa.timestamp("us", tz="America/New_York"))) == [MOMENT]


def test_naive_times_are_meant_in_the_named_zone(spark):
    # 29 October 2023, 02:30 comes twice in Berlin: the earlier one is taken. 31 March 2024, 02:30 never comes.
    wall = [datetime(2024, 7, 1, 12), datetime(2023, 10, 29, 2, 30), datetime(2024, 3, 31, 2, 30)]  # noqa: DTZ001
    expected = [datetime(2024, 7, 1, 10), datetime(2023, 10, 29, 0, 30), datetime(2024, 3, 31, 1, 30)]  # noqa: DTZ001
    expected = [moment.replace(tzinfo=UTC) for moment in expected]
    assert instants(spark, pa.array(wall, pa.timestamp("us")), timezone="Europe/Berlin") == expected
    assert instants(spark, [f"{moment:%Y-%m-%d %H:%M}" for moment in wall], timezone="Europe/Berlin") == expected


def test_days_begin_in_the_named_zone(spark):
    expected = datetime(2024, 6, 30, 22, tzinfo=UTC)
    assert instants(spark, pa.array([date(2024, 7, 1)]), timezone="Europe/Berlin") == [expected]
    assert instants(spark, ["2024-07-01"], timezone="Europe/Berlin") == [expected]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.date32()])
def test_naive_columns_need_a_zone(spark, kind):
    with pytest.raises(EventsError, match="'at' are naive") as caught:
        parsed(spark, pa.array([None], kind))
    assert "[events] timezone" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "2024-07-01T10:30:15.123456Z",
        "2024-07-01 10:30:15.123456 UTC",
        "2024-07-01T12:30:15.123456+02:00",
        "2024-07-01T12:30:15.123456+0200",
        "2024-07-01 05:30:15.123456-05:00",
        "2024-07-01 12:30:15.123456 Europe/Berlin",
        " 2024-07-01T10:30:15.123456Z ",
    ],
)
def test_text_that_names_its_zone_needs_none(spark, text):
    assert parsed(spark, [text]) == [(MOMENT, False, False, False)]
    assert instants(spark, [text], timezone="Asia/Tokyo") == [MOMENT]


def test_text_without_zone(spark):
    rows = parsed(spark, ["2024-07-01T10:30:15", "2024-07-01", "", None, "soon"])
    assert [row[2] for row in rows] == [True, True, False, False, False]
    assert [row[1] for row in rows] == [False, False, True, True, False]
    assert rows[4][0] is None


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([SECONDS, -1], "s", [MOMENT.replace(microsecond=0), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)]),
        (pa.array([SECONDS], pa.int32()), "s", [MOMENT.replace(microsecond=0)]),
        ([SECONDS * 1000 + 123], "ms", [MOMENT.replace(microsecond=123000)]),
        ([SECONDS * 1_000_000 + 123456], "us", [MOMENT]),
        ([SECONDS + 0.25], "s", [MOMENT.replace(microsecond=250000)]),
        ([Decimal(SECONDS)], "s", [MOMENT.replace(microsecond=0)]),
        ([str(SECONDS), "", "x"], "s", [MOMENT.replace(microsecond=0), None, None]),
    ],
)
def test_epoch_numbers(spark, values, unit, expected):
    assert instants(spark, values, timestamp_unit=unit) == expected


def test_numbers_that_no_calendar_reaches(spark):
    rows = parsed(spark, [2**62, -(2**62), None], timestamp_unit="s")
    assert rows == [(None, False, False, True), (None, False, False, True), (None, True, False, False)]


def test_numbers_need_a_unit(spark):
    with pytest.raises(EventsError, match=r"'at' are numbers \(bigint\)") as caught:
        parsed(spark, [1])
    assert "timestamp_unit" in caught.value.hint


def test_other_types_hold_no_times(spark):
    with pytest.raises(EventsError, match="type boolean, which holds no times"):
        parsed(spark, [True])
