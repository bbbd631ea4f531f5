"""Numbers of every type, exactly; and rounding as on paper."""

import math
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.event_numbers import holds_numbers, read_numbers, round_half_up


def read(values):
    found = read_numbers(values if isinstance(values, pa.Array) else pa.array(values))
    rows = range(len(found.values))
    flags = [set(np.flatnonzero(f)) if f is not None else set() for f in (found.is_missing, found.is_unreadable)]
    return [None if row in flags[0] else "text" if row in flags[1] else float(found.values[row]) for row in rows]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, -3], pa.int8()),
        pa.array([1, None, -3], pa.float32()),
        pa.array([Decimal(1), None, Decimal(-3)], pa.decimal128(30, 4)),
        pa.array(["1", None, "-3"]),
        pa.array(["1", None, "-3"], pa.large_string()),
        pa.array(["1", None, "-3"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_every_type(column):
    assert holds_numbers(column.type)
    assert read(column) == [1.0, None, -3.0]
    assert read(column.slice(1)) == [None, -3.0]


def test_booleans_and_nulls():
    assert read([True, None, False]) == [1.0, None, 0.0]
    assert read(pa.nulls(2)) == [None, None]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.50", 2.5), (" 3", 3.0), ("3\t", 3.0), ("+4", 4.0), ("1.", 1.0), (".5", 0.5), ("-1e2", -100.0),
        ("1E-3", 0.001), ("1e400", math.inf), ("-inf", -math.inf), ("Infinity", math.inf),
        ("1" * 200, float("1" * 200)), ("", None),
        ("  ", None), ("\t", "text"), ("two", "text"), ("1,5", "text"), ("1_000", "text"),
        ("0x10", "text"), ("٣", "text"), ("nan(1)", "text"), (".", "text"), ("1 2", "text"),
    ],
)  # fmt: skip
def test_text(text, number):
    assert read([text]) == read([None, "7", text])[2:] == [number]


def test_nan_is_a_value_of_its_own():
    assert math.isnan(read(["NaN"])[0])
    assert math.isnan(read([float("nan")])[0])


@given(st.lists(st.one_of(st.none(), st.floats().map(repr), st.text("0123456789.eE+- \tnaif", max_size=6)), min_size=1))
def test_text_means_the_same_beside_any_other(values):
    expected = [read(pa.array([value], pa.string()))[0] for value in values]
    assert repr(read(pa.array(values, pa.string()))) == repr(expected)


@given(st.data(), st.integers(1, 38))
def test_decimals_give_the_nearest_float(data, precision):
    scale = data.draw(st.integers(0, precision))
    digits = data.draw(st.lists(st.one_of(st.none(), st.integers(1 - 10**precision, 10**precision - 1)), min_size=1))
    values = [None if number is None else Decimal(f"{number}E-{scale}") for number in digits]
    column = pa.array(values, pa.decimal128(precision, scale))
    assert read(column) == [None if value is None else float(value) for value in values]


@given(st.floats(0, 1e12), st.integers(0, 6))
def test_rounding_is_that_of_the_shortest_decimal(value, digits):
    expected = float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    assert round_half_up(np.array([value]), digits)[0] == expected


@given(st.integers(0, 10**11), st.integers(0, 6))
def test_a_half_goes_up(whole, digits):
    half = float(Decimal(whole * 10 + 5).scaleb(-digits - 1))
    assert round_half_up(np.array([half]), digits)[0] == float(Decimal(whole + 1).scaleb(-digits))


def test_what_is_no_number_is_not_rounded():
    found = round_half_up(np.array([math.inf, math.nan, 1e300, 1e25]), 2)
    assert repr(found.tolist()) == repr([math.inf, math.nan, 1e300, 1e25])


def test_beyond():
    found = read_numbers(pa.array(["1", "11", "-11", "nan", "inf", None, "", "x"])).beyond(10)
    assert found.tolist() == [False, True, True, True, True, False, False, False]


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.list_(pa.int64()), pa.binary()])
def test_what_holds_no_numbers(kind):
    assert not holds_numbers(kind)
