"""Times as text: what is read, and that it means the same whatever stands beside it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segmenter_plugin.data.time_text import parse_time_text, read_wall_times

MOMENT = datetime(2024, 7, 1, 10, 30, 15, 123456, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment):
    return (moment - EPOCH) // timedelta(microseconds=1)


def read(*texts):
    found = read_wall_times(pa.array(texts, pa.string()))
    unreadable = np.zeros(len(texts), bool) if found.is_unreadable is None else found.is_unreadable
    return [
        None if bad else (int(time), bool(zoned))
        for time, zoned, bad in zip(found.micros, found.is_zoned, unreadable, strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2024-07-01T10:30:15.123456Z",
        "2024-07-01 10:30:15.123456 UTC",
        "2024-07-01 10:30:15.1234567891 GMT",
        "2024-07-01T12:30:15.123456+02:00",
        "2024-07-01T12:30:15.123456+0200",
        "2024-07-01T12:30:15.123456 +2",
        "2024-07-01T12:30:15.123456UTC+2",
        "2024-07-01T10:30:45.123456+00:00:30",
        "2024-07-01 05:30:15.123456-05:00",
        "2024-07-01 12:30:15.123456 Europe/Berlin",
        "2024-07-01 07:30:15.123456 America/Argentina/Buenos_Aires",
        "2024-07-01 05:30:15.123456 Etc/GMT+5",
        "2024-07-01 12:30:15.123456 CET",
        " 2024-07-01T10:30:15.123456Z ",
        "\t2024-7-1 10:30:15.123456 Z",
    ],
)
def test_with_a_zone(text):
    assert read(text) == [(micros(MOMENT), True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-07-01T10:30:15.5", "2024-07-01T10:30:15.5"),
        ("2024-07-01T10:30:15.", "2024-07-01T10:30:15"),
        ("2024-7-1 3:07", "2024-07-01T03:07"),
        ("2024-07-01 9", "2024-07-01T09"),
        ("2024-07-01", "2024-07-01T00"),
        ("2024-02-29", "2024-02-29T00"),
        ("2024-07", "2024-07-01T00"),
        ("2024", "2024-01-01T00"),
        ("+2024-07-01", "2024-07-01T00"),
    ],
)
def test_without_a_zone(text, expected):
    assert read(text) == [(micros(datetime.fromisoformat(expected).replace(tzinfo=UTC)), False)]


@pytest.mark.parametrize(
    "text",
    [
        "soon", "", " ", "10:30", "T10:30", "202", "2024-13-01", "2024-02-30T00:00:00Z", "2023-02-29",
        "2024-07-01T24:00:00", "2024-07-01T10:30:60Z", "2024-07-01T", "2024-07-01T10:", "2024-07-01  10:30",
        "2024-07-01Z", "2024-07-01 Z", "2024-07-01T10:30:15 Nowhere/Land", "2024-07-01T10:30:15 Europe",
        "2024-07-01T10:30:15 ../etc",
        "2024-07-01T10:30:15+24:00", "2024-07-01T10:30:15+02:60", "2024-07-01T10:30:15z", "٢٠٢٤-07-01", "300000-01-01",
        "2024-07-01\n2024-07-01", "2024-07-01T10:30:15Z UTC",
    ],
)  # fmt: skip
def test_no_times(text):
    assert read(text) == [None]


def test_years_that_python_does_not_reach():
    assert read("20240-01-01", "-2024-01-01", "0000-01-01") == [
        (576_545_472_000_000_000, False),
        (-126_038_505_600_000_000, False),
        (-62_167_219_200_000_000, False),
    ]


def test_a_zone_whose_clock_was_changed():
    texts = ["2023-10-29 02:30:00 Europe/Berlin", "2024-03-31 02:30:00 Europe/Berlin"]
    expected = [datetime(2023, 10, 29, 0, 30, tzinfo=UTC), datetime(2024, 3, 31, 1, 30, tzinfo=UTC)]
    assert read(*texts) == [(micros(moment), True) for moment in expected]


ZONES = st.sampled_from(["", "Z", "+02:00", "-0530", "+17:59", "+23:59", " UTC", "+02", "+24:00", "+02:60"])
FIELDS = st.tuples(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32), *[st.integers(0, 61)] * 3)
TIMES = st.builds(
    lambda fields, fraction, zone: "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(*fields) + fraction + zone,
    FIELDS,
    st.sampled_from(["", ".5", ".123456", ".1234567", "."]),
    ZONES,
)


@given(TIMES)
@example("2024-02-29T00:00:00Z")
@example("1900-02-29T00:00:00Z")
@example("2024-06-30T23:59:59.123456-0530")
@example("2024-06-31")
def test_arrow_and_the_grammar_agree(text):
    """Whatever goes the short way means what the long way says."""
    assert read(text) == [parse_time_text(text)]


@given(st.lists(st.one_of(st.none(), TIMES, st.just("2024-07-01"), st.just("?")), min_size=1))
def test_text_means_the_same_beside_any_other(texts):
    assert read(*texts) == [read(text)[0] for text in texts]
