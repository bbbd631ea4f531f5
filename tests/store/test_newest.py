"""Of each user the newest row stays, however the rows come, in little memory."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from feast import ValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.store import newest as newest_rows
from segmenter_plugin.store.newest import MISSING, Newest, key_codes

KEYS = {
    "int": ({"user": ValueType.INT64}, st.tuples(st.integers(-5, 5) | st.just(2**63 - 1) | st.just(-(2**63)))),
    "string": ({"user": ValueType.STRING}, st.tuples(st.sampled_from(["", "a", "ab", "é", "a\0", "\0a"]))),
    "both": (
        {"user": ValueType.STRING, "shop": ValueType.INT32},
        st.tuples(st.sampled_from(["", "1", "11"]), st.integers(0, 2)),
    ),
}
TYPES = {ValueType.INT64: pa.int64(), ValueType.INT32: pa.int32(), ValueType.STRING: pa.string()}
TIMES = st.integers(-2, 2)


def batch_of(keys, kinds):
    columns = list(zip(*keys, strict=True)) or [()] * len(kinds)
    arrays = [pa.array(column, TYPES[kind]) for column, kind in zip(columns, kinds.values(), strict=True)]
    return pa.record_batch(arrays, names=list(kinds))


@pytest.mark.parametrize("kind", KEYS)
@settings(max_examples=150)
@given(data=st.data())
def test_the_newest_row_of_each_key_stays(kind, data):
    kinds, key = KEYS[kind]
    created = TIMES | st.just(MISSING)
    batches = data.draw(st.lists(st.lists(st.tuples(key, TIMES, created), max_size=12), max_size=6))
    gaps = data.draw(st.integers(0, 3))
    newest = Newest(rows=100, waiting_rows=data.draw(st.integers(1, 20)))
    expected, ordinal = {}, 0
    for rows in batches:
        ordinals = np.arange(len(rows)) * (gaps + 1) + ordinal
        ordinal += len(rows) * (gaps + 1)
        times = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 2)
        if rows:
            codes = key_codes(batch_of([row[0] for row in rows], kinds), kinds)
            newest.add(codes, times[:, 0], times[:, 1], ordinals)
        for (user, event, made), place in zip(rows, ordinals.tolist(), strict=True):
            if user not in expected or (event, made) >= expected[user][:2]:
                expected[user] = (event, made, place)
    chosen = newest.finish()
    assert chosen.ordinals.tolist() == sorted(place for *_, place in expected.values())
    by_place = {place: event for event, _, place in expected.values()}
    assert chosen.event_us.tolist() == [by_place[place] for place in chosen.ordinals.tolist()]


@settings(max_examples=100)
@given(words=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=40), waiting=st.integers(1, 9))
def test_codes_that_share_their_first_word_are_told_apart(words, waiting):
    newest = Newest(rows=40, waiting_rows=waiting)
    for place, word in enumerate(words):
        time = np.zeros(1, np.int64)
        newest.add(np.array([word], np.uint64), time, time, np.array([place]))
    last = {word: place for place, word in enumerate(words)}
    assert newest.finish().ordinals.tolist() == sorted(last.values())


def test_many_users_in_any_order_are_merged_as_a_dict_would():
    rng = np.random.default_rng(5)
    newest, expected, count = Newest(rows=600_000), {}, 50_000
    for start in range(0, 600_000, count):
        users, times = rng.integers(0, 200_000, count), rng.integers(0, 9, count)
        ordinals = np.arange(start, start + count)
        newest.add(users[:, None], times, np.zeros(count, np.int64), ordinals)
        for user, time, place in zip(users.tolist(), times.tolist(), ordinals.tolist(), strict=True):
            if user not in expected or time >= expected[user][0]:
                expected[user] = (time, place)
    assert newest.finish().ordinals.tolist() == sorted(place for _, place in expected.values())


@settings(max_examples=200)
@given(
    old=st.lists(st.integers(), max_size=15),
    new=st.lists(st.tuples(st.integers(0, 15), st.integers()), max_size=15),
    block=st.integers(1, 6),
)
def test_rows_move_over_several_blocks_as_in_one(old, new, block):
    new = sorted((min(place, len(old)), value) for place, value in new)
    place, values = np.array([row[0] for row in new], np.int64), np.array([row[1] for row in new], object)
    column = np.array([*old, *[None] * len(new)], object)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newest_rows, "_BLOCK", block)
        newest_rows._insert(column, len(old), place, values)
    assert column.tolist() == np.insert(np.array(old, object), place, values).tolist()


def test_more_rows_than_fit_four_bytes_keep_their_ordinals():
    newest, time = Newest(rows=2**32), np.zeros(1, np.int64)
    newest._capacity = 10
    newest.add(np.array([[7]]), time, time, np.array([2**32 + 5]))
    assert newest.finish().ordinals.tolist() == [2**32 + 5]


MEMORY = """
import sys
import numpy as np
from segmenter_plugin.store.newest import Newest

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

def run(users, history):
    newest, place = Newest(users * history), 0
    for day in range(history):
        for start in range(0, users, 50_000):
            ids = (np.arange(start, min(start + 50_000, users), dtype=np.uint64) * np.uint64(7919)) % np.uint64(users)
            codes = np.stack([ids * np.uint64(0x9E3779B97F4A7C15), ids], axis=1)
            times = np.full(len(ids), day, np.int64)
            newest.add(codes, times, times, np.arange(place, place + len(ids)))
            place += len(ids)
    return newest.finish()

history = int(sys.argv[1])
run(100_000, history)
small = peak()
kept = run(1_000_000, history)
print((peak() - small) / 900_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("history", [1, 6])
def test_a_user_costs_at_most_64_bytes_at_the_peak(history):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(history)], capture_output=True, text=True, check=True, timeout=300
    )
    assert 12 < float(done.stdout) <= 64
