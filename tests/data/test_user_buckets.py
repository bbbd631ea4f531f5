"""Buckets of users: stable, even, and depending on the id alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.user_buckets import buckets_of, hashes_of


def test_values_never_change():
    """An event log on someone's disk was written with these."""
    text = pa.array(["", "a", "anna", "12345678", "123456789", "ä" * 300])
    assert [hex(value) for value in hashes_of(text)] == [
        "0xe220a8397b1dcdaf",
        "0x3e506e5796335af0",
        "0x15d17f5f79e364b5",
        "0x82177327e1e4daac",
        "0xb0f00539162b363b",
        "0x6d3ce363f9f85da9",
    ]
    assert [hex(value) for value in hashes_of(pa.array([0, 1, -1]))] == [
        "0xe220a8397b1dcdaf",
        "0x910a2dec89025cc1",
        "0xe4d971771b652c20",
    ]
    assert buckets_of(pa.array(["anna", "berta"]), 1000).tolist() == [85, 740]


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_spread_is_even(kind):
    """Chi-square within five standard deviations, for ids that differ little."""
    numbers = np.arange(100_000)
    users = pa.array(numbers) if kind == "numbers" else pa.array(np.char.add("user-", numbers.astype(str)))
    for count in (2, 97, 1024):
        found = np.bincount(buckets_of(users, count), minlength=count)
        assert len(found) == count
        expected = len(users) / count
        assert ((found - expected) ** 2 / expected).sum() < count + 5 * np.sqrt(2 * count)


@given(st.lists(st.text(max_size=40), min_size=1), st.data())
def test_text_alone_decides(users, data):
    """Not its neighbours, the slice it lies in, its chunk, its type or a dictionary."""
    alone = np.concatenate([hashes_of(pa.array([user])) for user in users])
    start = data.draw(st.integers(0, len(users) - 1))
    column = pa.array(users)
    assert hashes_of(column).tolist() == alone.tolist()
    assert hashes_of(column[start:]).tolist() == alone[start:].tolist()
    assert hashes_of(pa.chunked_array([column[start:], column[:start]])).tolist() == [*alone[start:], *alone[:start]]
    assert hashes_of(column.dictionary_encode()[start:]).tolist() == alone[start:].tolist()
    assert hashes_of(column.cast(pa.large_string())).tolist() == alone.tolist()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1))
def test_width_of_whole_numbers_does_not_matter(users):
    assert hashes_of(pa.array(users, pa.int32())).tolist() == hashes_of(pa.array(users, pa.int64())).tolist()


def test_nobody():
    assert buckets_of(pa.array([], pa.string()), 4).tolist() == []
    assert buckets_of(pa.chunked_array([], pa.int64()), 4).tolist() == []


def test_long_ids_differ_by_their_beginning_and_length():
    long = "x" * 1000
    assert len(set(hashes_of(pa.array([long, long + "x", "y" + long[1:]])).tolist())) == 3
