"""Tables as binary values and back, whole or in parts."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.arrow_blobs import compact, in_one_piece, pack, split, unpack

ROWS = st.lists(st.tuples(st.sampled_from([None, "", "a", "ä", "zz"]), st.integers(0, 5), st.integers(0, 6)))


def table_of(rows, *, is_coded):
    text = pa.chunked_array([pa.array([row[0] for row in rows], pa.string())])
    return pa.table(
        {
            "word": text.dictionary_encode() if is_coded else text,
            "number": pa.array([row[1] for row in rows], pa.int64()),
        }
    )


def values(table):
    return [tuple(row.values()) for row in table.to_pylist()]


@given(ROWS, st.booleans())
def test_parts_hold_each_row_once_in_order(rows, is_coded):
    parts = np.array([row[2] for row in rows], np.int32)
    found = list(split(in_one_piece(table_of(rows, is_coded=is_coded)), parts, 7))
    assert [part for part, _ in found] == sorted(set(parts.tolist()))
    for part, table in found:
        assert values(unpack([pack(table)])) == [row[:2] for row in rows if row[2] == part]


@given(st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=4))
def test_blobs_with_and_without_dictionaries_go_together(blobs):
    packed = [pack(in_one_piece(table_of(rows, is_coded=is_coded))) for rows, is_coded in blobs]
    together = in_one_piece(unpack(packed))
    assert values(together) == [row[:2] for rows, _ in blobs for row in rows]
    assert together["word"].num_chunks == 1


@given(st.lists(st.sampled_from([None, *range(40)]), min_size=1), st.integers(1, 3))
def test_a_dictionary_holds_what_is_used(places, times):
    """Few rows of a large dictionary and many of a small one go different ways."""
    entries = pa.array([f"entry {number}" for number in range(40)])
    codes = pa.array(places * times, pa.int32())
    table = pa.table({"word": pa.chunked_array([pa.DictionaryArray.from_arrays(codes, entries)])})
    found = compact(table)
    assert found["word"].to_pylist() == table["word"].to_pylist()
    assert set(found["word"].chunk(0).dictionary.to_pylist()) == set(table["word"].to_pylist()) - {None}


def test_a_blob_is_smaller_than_its_rows():
    table = in_one_piece(table_of([("zz", 1, 0)] * 10_000, is_coded=True))
    assert len(pack(table)) < table.nbytes / 4
