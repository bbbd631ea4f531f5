"""Cells equal, byte for byte, what Feast writes."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from feast import ValueType
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.store.wire import NULL_TIME, decode_time, encode_times, encode_values, encodes, to_nanos

_MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 (both ends are naive UTC)
_INT32 = st.integers(-(2**31), 2**31 - 1)
_INT53 = st.integers(-(2**53), 2**53)
_FLOAT = st.floats(width=32)

#: Feast type, Arrow type, elements that stock keeps as they are.
SCALARS = {
    "int32": (ValueType.INT32, pa.int32(), _INT32),
    "int64": (ValueType.INT64, pa.int64(), _INT53),
    "int64 from int32": (ValueType.INT64, pa.int32(), _INT32),
    "float": (ValueType.FLOAT, pa.float32(), _FLOAT),
    "float from double": (ValueType.FLOAT, pa.float64(), st.floats()),
    "double": (ValueType.DOUBLE, pa.float64(), st.floats()),
    "bool": (ValueType.BOOL, pa.bool_(), st.booleans()),
    "string": (ValueType.STRING, pa.string(), st.text()),
    "large string": (ValueType.STRING, pa.large_string(), st.text()),
    "bytes": (ValueType.BYTES, pa.binary(), st.binary(min_size=1, max_size=300)),
    "time": (ValueType.UNIX_TIMESTAMP, pa.timestamp("us"), _MOMENTS),
    "zoned time": (ValueType.UNIX_TIMESTAMP, pa.timestamp("ms", "Europe/Berlin"), _MOMENTS),
}

#: Lists likewise; Feast takes nulls among the elements of these only.
LISTS = {
    "int32": (ValueType.INT32_LIST, pa.int32(), _INT32),
    "int64": (ValueType.INT64_LIST, pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (ValueType.FLOAT_LIST, pa.float32(), st.none() | _FLOAT),
    "double": (ValueType.DOUBLE_LIST, pa.float64(), st.none() | st.floats()),
    "bool": (ValueType.BOOL_LIST, pa.bool_(), st.none() | st.booleans()),
    "string": (ValueType.STRING_LIST, pa.string(), st.none() | st.text(max_size=200)),
    "bytes": (ValueType.BYTES_LIST, pa.binary(), st.none() | st.binary(max_size=200)),
    "time": (ValueType.UNIX_TIMESTAMP_LIST, pa.timestamp("us"), st.none() | _MOMENTS),
}


def stock(column: pa.Array, value_type: ValueType) -> list[bytes]:
    values = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), value_type)
    return [value.SerializeToString() for value in values]


@pytest.mark.parametrize("kind", SCALARS)
@given(data=st.data())
def test_scalars_equal_feast_s(kind, data):
    value_type, arrow_type, elements = SCALARS[kind]
    rows = data.draw(st.lists(st.none() | elements, min_size=1, max_size=30))
    skipped = data.draw(st.integers(0, len(rows) - 1))
    column = pa.array(rows).cast(arrow_type, safe=False) if rows.count(None) < len(rows) else pa.nulls(1, arrow_type)
    column = column[min(skipped, len(column) - 1) :]
    assert encodes(value_type, arrow_type)
    assert encode_values(column, value_type).to_pylist() == stock(column, value_type)


@settings(max_examples=40)
@pytest.mark.parametrize("shape", ["list", "large list", "fixed size list"])
@pytest.mark.parametrize("kind", LISTS)
@given(data=st.data())
def test_lists_equal_feast_s(kind, shape, data):
    value_type, arrow_type, elements = LISTS[kind]
    size = data.draw(st.integers(1, 5))
    sizes = {"min_size": size, "max_size": size} if shape == "fixed size list" else {"max_size": 40}
    # The first row settles for Feast what the elements are, and may hold no null.
    first = data.draw(st.lists(elements.filter(lambda value: value is not None), **sizes))
    # Feast reads the integers under a null row of a fixed size as NaN, and fails on them.
    absent = st.nothing() if shape == "fixed size list" and pa.types.is_integer(arrow_type) else st.none()
    rows = [first, *data.draw(st.lists(absent | st.lists(elements, **sizes), max_size=12))]
    made = {"list": pa.list_, "large list": pa.large_list, "fixed size list": lambda of: pa.list_(of, size)}[shape]
    column = pa.array(rows, made(arrow_type))
    assert encodes(value_type, column.type)
    assert encode_values(column, value_type).to_pylist() == stock(column, value_type)


def test_a_part_of_a_column_is_encoded_as_if_alone():
    column = pa.array([[1.0], None, [2.0, 3.0], [4.0]], pa.list_(pa.float32()))
    whole = encode_values(column, ValueType.FLOAT_LIST).to_pylist()
    assert encode_values(column[1:3], ValueType.FLOAT_LIST).to_pylist() == whole[1:3]


def test_where_feast_loses_int64_ours_keeps_them():
    column = pa.array([2**53 + 1, None, -(2**63), 2**63 - 1], pa.int64())
    ours = encode_values(column, ValueType.INT64)
    assert read_back(ours) == column.to_pylist()
    # Beside a null Feast reads the column as doubles; the greatest int64 does not even fit back.
    with pytest.raises(ValueError, match="out of range"):
        stock(column, ValueType.INT64)
    assert stock(column[:2], ValueType.INT64) != ours.to_pylist()[:2]


def test_where_feast_drops_empty_bytes_ours_keeps_them():
    column = pa.array([b"", None], pa.binary())
    assert read_back(encode_values(column, ValueType.BYTES)) == [b"", None]
    assert stock(column, ValueType.BYTES) == [b"", b""]


def test_where_feast_refuses_null_integers_in_lists_ours_writes_its_default():
    column = pa.array([[1, None]], pa.list_(pa.int64()))
    assert read_back(encode_values(column, ValueType.INT64_LIST)) == [[1, 0]]
    with pytest.raises(TypeError):
        stock(column, ValueType.INT64_LIST)


def test_where_feast_reads_nanoseconds_as_seconds_ours_keeps_the_time():
    moment = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    column = pa.array([[moment]], pa.list_(pa.timestamp("ns", "UTC")))
    assert read_back(encode_values(column, ValueType.UNIX_TIMESTAMP_LIST)) == [[moment]]
    assert (
        stock(column, ValueType.UNIX_TIMESTAMP_LIST) != encode_values(column, ValueType.UNIX_TIMESTAMP_LIST).to_pylist()
    )


def read_back(cells: pa.Array) -> list:
    return [feast_value_type_to_python_type(Value.FromString(cell)) for cell in cells.to_pylist()]


@pytest.mark.parametrize("value_type", [ValueType.FLOAT, ValueType.STRING_LIST, ValueType.UNIX_TIMESTAMP])
def test_a_column_of_nulls_alone_is_empty(value_type):
    assert encodes(value_type, pa.null())
    assert encode_values(pa.nulls(3), value_type).to_pylist() == stock(pa.nulls(3), value_type) == [b"", b"", b""]


def test_null_times_are_feast_s_number():
    cells = encode_values(pa.array([None], pa.timestamp("us")), ValueType.UNIX_TIMESTAMP)
    assert Value.FromString(cells[0].as_py()).unix_timestamp_val == NULL_TIME


def test_dictionaries_of_strings_are_strings():
    column = pa.array(["a", None, "b", "a"]).dictionary_encode()
    assert encodes(ValueType.STRING, column.type)
    plain = encode_values(pa.array(["a", None, "b", "a"]), ValueType.STRING)
    assert encode_values(column, ValueType.STRING).equals(plain)


@pytest.mark.parametrize("value_type", [ValueType.FLOAT_LIST, ValueType.STRING, ValueType.INT32])
def test_no_rows_no_cells(value_type):
    arrow_type = {ValueType.FLOAT_LIST: pa.list_(pa.float32()), ValueType.STRING: pa.string()}.get(
        value_type, pa.int32()
    )
    assert len(encode_values(pa.array([], arrow_type), value_type)) == 0


@pytest.mark.parametrize(
    ("value_type", "arrow_type"),
    [
        (ValueType.STRING, pa.int64()),
        (ValueType.FLOAT, pa.int64()),
        (ValueType.INT64, pa.timestamp("us")),
        (ValueType.UNIX_TIMESTAMP, pa.string()),
        (ValueType.MAP, pa.map_(pa.string(), pa.string())),
        (ValueType.FLOAT_LIST, pa.list_(pa.string())),
        (ValueType.JSON, pa.string()),
    ],
)
def test_what_feast_converts_in_its_own_ways_is_left_to_it(value_type, arrow_type):
    assert not encodes(value_type, arrow_type)


def test_an_integer_that_does_not_fit_is_refused():
    with pytest.raises(pa.ArrowInvalid, match="not in range"):
        encode_values(pa.array([2**31], pa.int64()), ValueType.INT32)


@given(st.lists(st.integers(-(10**18), 4 * 10**18).map(lambda nanos: nanos // 1_000 * 1_000), max_size=20))
def test_times_equal_protobuf_s_and_come_back(nanos):
    encoded = encode_times(np.array(nanos, dtype=np.int64)).to_pylist()
    expected = []
    for number in nanos:
        time = Timestamp()
        time.FromNanoseconds(number)
        expected.append(time.SerializeToString())
    assert encoded == expected
    assert [decode_time(cell) for cell in encoded] == nanos


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_times_of_any_unit_and_zone_are_nanoseconds_of_utc(unit, zone):
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    column = pa.array([moment.replace(tzinfo=None) if zone is None else moment], pa.timestamp(unit, zone))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert to_nanos(column).tolist() == [(moment - epoch) // timedelta(microseconds=1) * 1_000]


def test_below_a_microsecond_is_cut_off():
    assert to_nanos(pa.array([1_999], pa.timestamp("ns", "UTC"))).tolist() == [1_000]
