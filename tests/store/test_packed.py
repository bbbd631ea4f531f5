"""Packed rows hold the cells that were put in, in whatever order they are asked for, and show when they are damaged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.packed import TAIL, RowReader, pack_rows, row_reader, time_of
from segmenter_plugin.store.resp import joined
from segmenter_plugin.store.wire import encode_times

FIELDS = [b"aaaa", b"bbbb", b"cccc", b"\0\0\0\xff"]
_nanos = st.integers(-62_000_000_000 * 10**9 // 7, 2**62)


def pack(cells, times):
    parts = pack_rows({field: pa.array(column, pa.binary()) for field, column in cells.items()}, np.array(times))
    return joined(parts, len(times))


@given(
    table=st.lists(st.tuples(*(st.binary(max_size=20) for _ in FIELDS), _nanos), min_size=1, max_size=6),
    asked=st.lists(st.sampled_from([*FIELDS, b"none"]), unique=True),
    gaps=st.sets(st.integers(0, 7)),
)
def test_cells_come_back_in_the_order_asked(table, asked, gaps):
    *columns, times = zip(*table, strict=True)
    cells = dict(zip(FIELDS, columns, strict=True))
    serialised = encode_times(np.array(times)).to_pylist()
    values = pack(cells, times)
    expected = [
        (*(cells[field][i] if field in cells else None for field in asked), serialised[i]) for i in range(len(times))
    ]
    for gap in sorted(gaps):
        values.insert(gap, None)
        expected.insert(gap, (None,) * (len(asked) + 1))
    reader = RowReader(asked)
    assert reader.read(values) == expected
    assert reader.read(values) == expected  # now from memory


@given(time=_nanos, last=st.binary(max_size=30))
def test_the_tail_is_enough_to_know_the_time(time, last):
    (value,) = pack({b"last": [last]}, [time])
    assert time_of(value[-TAIL:]) == encode_times(np.array([time]))[0].as_py()
    assert time_of(b"") is None


def test_rows_of_other_features_than_the_first_are_read_as_well():
    old = pack({b"aaaa": [b"1"]}, [1])
    new = pack({b"aaaa": [b"2"], b"bbbb": [b""]}, [2])
    other = pack({b"cccc": [b"x"], b"aaaa": [b"3"], b"bbbb": [b"4"]}, [3])
    reader = RowReader([b"bbbb", b"aaaa"])
    cells = [row[:2] for row in reader.read(old + new + other)]
    assert cells == [(None, b"1"), (b"", b"2"), (b"4", b"3")]
    assert [row[:2] for row in reader.read(other + old)] == [(b"4", b"3"), (None, b"1")]


def test_a_damaged_row_is_an_error_not_garbage():
    (value,) = pack({b"aaaa": [b"12345678"], b"bbbb": [b"123"]}, [10**18])
    damaged = [value[:size] for size in range(len(value))] + [value + b"\0", b"XXX" + value[3:], b"seg\x02" + value[4:]]
    swapped = value[:16] + (200).to_bytes(4, "little") + value[20:]
    for wrong in [*damaged, swapped]:
        for reader in (RowReader([b"aaaa"]), RowReader([b"bbbb", b"aaaa"]), RowReader([])):
            with pytest.raises(StoreError, match="no packed row") as caught:
                reader.read([value, wrong])
            assert "materialise the view again" in caught.value.hint
            with pytest.raises(StoreError, match="no packed row"):
                reader.read([wrong])


def test_what_is_remembered_is_bounded():
    reader = row_reader((b"aaaa",))
    assert row_reader((b"aaaa",)) is reader
    for size in range(1500):
        reader.read(pack({b"aaaa": [b"x" * size]}, [1]))
    assert len(reader) <= 1001
