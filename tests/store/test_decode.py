"""Bytes to values: equal to what Feast makes of each message, and quick where the rows are alike."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from feast import ValueType
from feast.protos.feast.types.Value_pb2 import FloatList, Int64List, StringSet, Value
from feast.type_map import feast_value_type_to_python_type
from hypothesis import given, settings
from hypothesis import strategies as st
from view_tables import LISTS, SCALARS, Kind

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.decode import Decoder, number_array
from segmenter_plugin.store.wire import encode_values


def _exactly(values: list) -> str:
    return repr([(type(value), value) for value in values])


def _stock(cells: list[bytes | None], value_type: ValueType) -> list:
    return [feast_value_type_to_python_type(Value.FromString(cell or b""), value_type) for cell in cells]


@st.composite
def columns(draw: st.DrawFn) -> tuple[ValueType, list[bytes | None]]:
    kind: Kind = draw(st.sampled_from(SCALARS + LISTS))
    import pyarrow as pa

    values = draw(st.lists(st.none() | kind.values, max_size=8))
    value_type = kind.feast.to_value_type()
    cells = encode_values(pa.array(values, kind.arrow), value_type).to_pylist()
    absent = draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells)))
    return value_type, [None if gone else cell for cell, gone in zip(cells, absent, strict=True)]


@settings(max_examples=400)
@given(column=columns())
def test_any_column_equals_feast_s(column):
    value_type, cells = column
    assert _exactly(Decoder(value_type).values(cells)) == _exactly(_stock(cells, value_type))


@settings(max_examples=100)
@given(column=columns(), declared=st.sampled_from([kind.feast.to_value_type() for kind in SCALARS + LISTS]))
def test_messages_of_another_type_than_declared_are_still_read_as_feast_does(column, declared):
    _, cells = column
    assert _exactly(Decoder(declared).values(cells)) == _exactly(_stock(cells, declared))


def test_messages_of_two_types_in_one_column():
    cells = [Value(float_val=1.5).SerializeToString(), Value(int32_val=7).SerializeToString()] * 2
    for value_type in (ValueType.FLOAT, ValueType.INT32):
        assert _exactly(Decoder(value_type).values(cells)) == _exactly([1.5, 7] * 2)


def test_a_message_as_long_as_a_float_that_is_none():
    cells = [Value(float_val=1.5).SerializeToString(), Value(string_val="abc").SerializeToString()]
    assert {len(cell) for cell in cells} == {5}
    assert Decoder(ValueType.FLOAT).values(cells) == [1.5, "abc"]


@pytest.mark.parametrize("length", [1, 2, 30, 31, 32, 33, 64, 128, 4_095, 4_096, 5_000, 600_000])
@pytest.mark.parametrize("value_type", [ValueType.FLOAT_LIST, ValueType.DOUBLE_LIST])
def test_lists_of_one_length_are_one_block(value_type, length):
    field = value_type.name.lower() + "_val"
    rows = [np.arange(length, dtype=np.float32) + i for i in range(3)]
    cells = []
    for row in rows:
        message = Value()
        getattr(message, field).val.extend(row.tolist())
        cells.append(message.SerializeToString())
    block = Decoder(value_type).block(cells)
    assert block is not None
    assert block.dtype == (np.float32 if value_type == ValueType.FLOAT_LIST else np.float64)
    assert np.array_equal(block, rows)


def test_rows_do_not_share_a_list():
    cell = Value(int64_list_val=Int64List(val=[1, 2])).SerializeToString()
    for value_type, cells in (
        (ValueType.INT64_LIST, [cell, cell]),
        (ValueType.INT64, [cell, cell]),  # declared otherwise than written
        (ValueType.FLOAT_LIST, [Value(float_list_val=FloatList(val=[1.0])).SerializeToString()] * 2),
        (ValueType.STRING_SET, [Value(string_set_val=StringSet(val=["a"])).SerializeToString()] * 2),
    ):
        first, second = Decoder(value_type).values(cells)
        assert first == second
        assert first is not second


def test_a_long_text():
    texts = ["ä" * 63, "ä" * 64, "x" * 127, "x" * 128, "", "x" * 100_000]
    cells = [Value(string_val=text).SerializeToString() for text in texts]
    assert Decoder(ValueType.STRING).values(cells) == texts


def test_a_null_time_is_none():
    cells = [Value(unix_timestamp_val=-(2**63)).SerializeToString(), Value(unix_timestamp_val=0).SerializeToString()]
    assert Decoder(ValueType.UNIX_TIMESTAMP).values(cells) == [None, datetime(1970, 1, 1, tzinfo=UTC)]


def _cells(field: str, values: list) -> list[bytes | None]:
    return [None if value is None else Value(**{field: value}).SerializeToString() for value in values]


@pytest.mark.parametrize(
    ("value_type", "field", "dtype"),
    [
        (ValueType.FLOAT, "float_val", np.float32),
        (ValueType.DOUBLE, "double_val", np.float64),
        (ValueType.INT32, "int32_val", np.float64),
        (ValueType.INT64, "int64_val", np.float64),
        (ValueType.BOOL, "bool_val", np.float32),
    ],
)
def test_numbers_keep_their_type_beside_a_missing_user(value_type, field, dtype):
    whole = Decoder(value_type).numbers(_cells(field, [1, 0, 1]), "x")
    gapped = Decoder(value_type).numbers(_cells(field, [1, None, 0]), "x")
    assert whole.dtype == gapped.dtype == dtype
    assert whole.tolist() == [1, 0, 1]
    assert gapped[[0, 2]].tolist() == [1, 0]
    assert math.isnan(gapped[1])


def test_an_embedding_with_a_missing_user_is_a_matrix():
    cells = [Value(float_list_val=FloatList(val=[i, i + 0.5])).SerializeToString() for i in range(3)]
    matrix = Decoder(ValueType.FLOAT_LIST).numbers([cells[0], None, b"", cells[2]], "embedding")
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert np.array_equal(matrix[[0, 3]], [[0, 0.5], [2, 2.5]])
    assert np.isnan(matrix[1:3]).all()


def test_without_a_row_the_length_is_not_known():
    assert Decoder(ValueType.FLOAT_LIST).numbers([None, b""], "embedding").shape == (2, 0)
    assert Decoder(ValueType.FLOAT).numbers([], "spend").shape == (0,)


def test_lists_of_two_lengths_make_no_matrix():
    cells = [Value(float_list_val=FloatList(val=[0.0] * n)).SerializeToString() for n in (3, 2)]
    with pytest.raises(StoreError, match=r"lengths \[2, 3\] stand in 'embedding'"):
        Decoder(ValueType.FLOAT_LIST).numbers(cells, "embedding")


def test_an_integer_that_float64_cannot_hold_is_refused():
    assert Decoder(ValueType.INT64).numbers(_cells("int64_val", [2**53]), "x").tolist() == [2.0**53]
    for value_type, cells in (
        (ValueType.INT64, _cells("int64_val", [1, -(2**53) - 1])),
        (ValueType.INT64_LIST, [Value(int64_list_val=Int64List(val=[1, 2**60])).SerializeToString()]),
    ):
        with pytest.raises(StoreError, match=r"up to 2\^53"):
            Decoder(value_type).numbers(cells, "x")


def test_a_text_is_no_number():
    with pytest.raises(StoreError, match="'segment' is a STRING") as caught:
        Decoder(ValueType.STRING).numbers(_cells("string_val", ["a"]), "segment")
    assert "to_dict()" in caught.value.hint
    with pytest.raises(StoreError, match="UNIX_TIMESTAMP"):
        number_array([datetime(2017, 1, 1, tzinfo=UTC)], ValueType.UNIX_TIMESTAMP, "seen")
