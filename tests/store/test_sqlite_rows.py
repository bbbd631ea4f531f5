"""Rows in SQLite are the ones that stock writes, and the newest stays."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from feast.infra.online_stores.sqlite import SqliteOnlineStore, adapt_datetime_epoch
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.utils import _convert_arrow_to_proto
from google.protobuf.timestamp_pb2 import Timestamp
from sqlite_tables import (
    NOON,
    SMALL,
    TIME,
    dump,
    fetch,
    keys_of,
    open_store,
    scores,
    users,
    view_of,
    write,
    write_stock,
)

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store import sqlite as fast
from segmenter_plugin.store import sqlite_file, sqlite_rows
from segmenter_plugin.store.online import StoreRestarted
from segmenter_plugin.store.rows import encode_rows, join_keys_of
from segmenter_plugin.store.sqlite_rows import BULK_ROWS, _stored_times, value_texts
from segmenter_plugin.store.wire import decode_time


@pytest.fixture
def ours(tmp_path: Path) -> SimpleNamespace:
    """An empty store of ours, with the table of `SMALL`."""
    (tmp_path / "ours").mkdir()
    return open_store(tmp_path / "ours", SMALL)


SCHEMAS = {
    "numbers": (
        {"f": Float32, "d": Float64, "i": Int32, "n": Int64},
        {
            "f": pa.array([0.1, None, float("nan"), -3e38], pa.float32()),
            "d": pa.array([1e300, 0.0, None, -0.5]),
            "i": pa.array([-1, 0, 2**31 - 1, -(2**31)], pa.int32()),
            "n": pa.array([-(2**63), 2**63 - 1, 0, 7], pa.int64()),
        },
    ),
    "texts": (
        {"s": String, "b": Bytes, "yes": Bool},
        {
            "s": pa.array(["", "naïve 東京 🙂", None, 'it\'s "quoted"']),
            "b": pa.array([b"", b"\x00\xff", None, b"x"], pa.binary()),
            "yes": pa.array([True, False, None, True]),
        },
    ),
    "lists": (
        {"e": Array(Float32), "names": Array(String), "counts": Array(Int64), "at": UnixTimestamp},
        {
            "e": pa.array([[0.5, -1.0], [], None, [float("nan")]], pa.list_(pa.float32())),
            "names": pa.array([["a", ""], [], None, ["é"]], pa.list_(pa.string())),
            "counts": pa.array([[1, -1], [], None, [2**62]], pa.list_(pa.int64())),
            "at": pa.array([NOON, NOON, None, NOON], TIME),
        },
    ),
    'it\'s a "name"': (
        {"it's": Int64, 'a "feature"': String},
        {"it's": pa.array([1, 2, 3, 4]), 'a "feature"': pa.array(["x", "y", None, "z"])},
    ),
}


@pytest.mark.parametrize("created", ["created", None])
@pytest.mark.parametrize("case", SCHEMAS)
def test_each_row_is_the_one_that_stock_writes(tmp_path, case, created):
    schema, columns = SCHEMAS[case]
    view = view_of(schema, created=created)
    odd = timedelta(days=-365 * 60, milliseconds=1)  # before 1970 and between two seconds
    times = [NOON, NOON + odd, NOON + timedelta(microseconds=999_999), NOON - timedelta(days=200)]
    batch = pa.record_batch(
        {
            "user_id": pa.array(["b", "a", "ü", ""]),
            "event_timestamp": pa.array(times, TIME),
            "created": pa.array(times[::-1], TIME),
            **columns,
        }
    )
    for folder in ("ours", "stock"):
        (tmp_path / folder).mkdir()
    ours, stock = open_store(tmp_path / "ours", view), open_store(tmp_path / "stock", view, kind="sqlite")
    assert write(ours, batch, view=view) == [4]
    write_stock(stock, batch, view)
    assert len(dump(stock.path)) == 4 * len(schema)
    assert dump(ours.path) == dump(stock.path)


@pytest.fixture
def zone(monkeypatch):
    def enter(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield enter
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/New_York"])
def test_times_are_instants_in_any_zone(zone, name):
    """Feast's adapter agrees in UTC; elsewhere it reads the naive UTC time as local time, and ours does not."""
    zone(name)
    spring, autumn = datetime(2024, 3, 30, tzinfo=UTC), datetime(2024, 10, 26, 20, tzinfo=UTC)
    times = [spring + timedelta(minutes=20 * i, milliseconds=i) for i in range(200)]
    times += [autumn + timedelta(minutes=20 * i) for i in range(50)] + [datetime(1969, 12, 31, 23, tzinfo=UTC)]
    nanos = np.array([int(at.timestamp()) * 10**9 + at.microsecond * 1000 for at in times])
    instants = [int(at.timestamp()) for at in times]
    assert _stored_times(nanos) == instants
    assert (instants == [adapt_datetime_epoch(at.replace(tzinfo=None)) for at in times]) == (name == "UTC")
    for at, stored in zip(times, instants, strict=True):
        message = Timestamp()
        message.FromDatetime(at.replace(microsecond=0))
        assert fast._time_message(stored) == message.SerializeToString()


def test_a_correction_from_another_zone_replaces(ours, zone):
    zone("America/New_York")
    write(ours, users(3, value=0.1))
    zone("UTC")
    assert write(ours, users(3, created=NOON + timedelta(seconds=1), value=0.2)) == [3]
    zone("Europe/Berlin")
    assert scores(ours, keys_of(users(3))) == [0.2] * 3


def test_a_newer_row_replaces_and_an_older_one_does_not(ours):
    keys = keys_of(users(3))
    day = timedelta(days=1)
    assert write(ours, users(3, value=0.1)) == [3]
    assert write(ours, users(3, NOON - day, NOON + day, value=0.2)) == [0]
    assert scores(ours, keys) == [0.1] * 3
    assert write(ours, users(2, NOON + day, NOON - day, value=0.3)) == [2]
    assert sorted(scores(ours, keys)) == [0.1, 0.3, 0.3]


def test_a_corrected_row_of_the_same_time_replaces_and_a_superseded_one_does_not(ours):
    second = timedelta(seconds=1)
    keys = keys_of(users(3))
    write(ours, users(3, value=0.1))
    assert write(ours, users(3, created=NOON + second, value=0.2)) == [3]
    assert write(ours, users(3, created=NOON, value=0.3)) == [0]
    assert scores(ours, keys) == [0.2] * 3
    assert write(ours, users(3, created=None, value=0.4)) == [3], "nothing says that the stored row is newer"
    assert {row[-2] for row in dump(ours.path)} == {None}


def test_the_same_batch_twice_leaves_the_same_file_contents(ours):
    write(ours, users(50))
    once = dump(ours.path)
    write(ours, users(50))
    assert dump(ours.path) == once


@pytest.mark.parametrize("where", ["call", "config"])
def test_feast_s_own_rule_overwrites_whatever_is_there(tmp_path, where):
    strict = open_store(tmp_path, SMALL, strict_stock=where == "config")
    write(strict, users(3, value=0.1))
    older = users(3, NOON - timedelta(days=1), value=0.2)
    assert write(strict, older, strict_stock=where == "call") == [3]
    assert scores(strict, keys_of(older)) == [0.2] * 3


def indexes(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    connection.close()
    return names


def test_the_second_index_is_made_after_a_first_load_and_after_one_that_was_cut_off(ours):
    batch = encode_rows(users(BULK_ROWS), SMALL)
    with ours.store.writer(ours.config, SMALL) as writer:
        writer.write(batch)
    assert "team_taste_ek" not in indexes(ours.path)
    write(ours, users(1))
    assert "team_taste_ek" in indexes(ours.path)


def test_two_writers_of_one_process_take_turns(ours):
    def run(value: float) -> None:
        for day in range(5):
            write(ours, users(500, NOON + timedelta(days=day), value=value))

    threads = [threading.Thread(target=run, args=(value,)) for value in (0.1, 0.2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = fetch(ours, keys_of(users(500)))
    assert {decode_time(at) for at in found.event_times} == {int((NOON + timedelta(days=4)).timestamp()) * 10**9}


def test_a_file_replaced_while_it_is_written_is_noticed(ours):
    with ours.store.writer(ours.config, SMALL) as writer:
        writer.write(encode_rows(users(10), SMALL))
        open_store(ours.path.parent, apply=False).store.teardown(ours.config, [SMALL], [])
        with pytest.raises(StoreRestarted):
            writer.finish()


@pytest.mark.parametrize("option", ["vector_enabled", "enable_openai_compatible_store"])
def test_further_columns_are_left_to_feast(tmp_path, option):
    # On a schema without vectors, for which stock needs a length.
    view = view_of({"score": Float32, "visits": Int64})
    batch = users(4).select(["user_id", "event_timestamp", "created", "score", "visits"])
    for folder in ("ours", "stock"):
        (tmp_path / folder).mkdir()
    ours = open_store(tmp_path / "ours", view, **{option: True})
    stock = open_store(tmp_path / "stock", view, kind="sqlite", **{option: True})
    assert write(ours, batch, view=view) == [4]
    write_stock(stock, batch, view)
    assert dump(ours.path) == dump(stock.path)
    ours.store.online_write_batch(ours.config, view, _convert_arrow_to_proto(batch, view, join_keys_of(view)), None)
    assert dump(ours.path) == dump(stock.path)


def test_texts_of_a_column_of_several_types_follow_each_value():
    values = [Value(float_val=0.1), Value(int64_val=5), Value(), Value(bytes_val=b"x"), Value(string_val="é")]
    cells = pa.array([b"skipped", *(value.SerializeToString() for value in values)], pa.binary()).slice(1)
    assert value_texts(cells) == ["0.10000000149011612", "5", None, None, "é"]
    assert value_texts(cells.slice(2, 2)) is None
    assert value_texts(pa.array([], pa.binary())) is None


def test_batches_are_seen_together_from_the_commit_on(ours, monkeypatch):
    keys = keys_of(users(4))
    with ours.store.writer(ours.config, SMALL) as writer:
        writer.write(encode_rows(users(4, value=0.1), SMALL))
        assert scores(ours, keys) == [None] * 4
        monkeypatch.setattr(sqlite_rows, "TRANSACTION_S", 0)
        writer.write(encode_rows(users(4, value=0.2), SMALL))
        assert scores(ours, keys) == [0.2] * 4


def test_what_was_taken_stays_when_the_source_fails_later(ours):
    def fail() -> None:
        with ours.store.writer(ours.config, SMALL) as writer:
            writer.write(encode_rows(users(4, value=0.1), SMALL))
            raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        fail()
    assert scores(ours, keys_of(users(4))) == [0.1] * 4
    assert write(ours, users(4, value=0.2)) == [4], "and the next writer need not wait"


def test_a_writer_that_failed_lets_the_next_one_in(ours):
    with ours.store.writer(ours.config, SMALL) as writer:
        writer._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(StoreError):
            writer.write(encode_rows(users(4), SMALL))
        assert write(ours, users(4)) == [4]


def test_a_writer_in_the_way_within_the_process_is_said(ours, monkeypatch):
    for module in (sqlite_rows, sqlite_file):
        monkeypatch.setattr(module, "BUSY_S", 0.05)
    with ours.store.writer(ours.config, SMALL) as first:
        first.write(encode_rows(users(4), SMALL))
        with pytest.raises(StoreError, match=r"locked by a writer of this process for 0.05 s(.|\n)*run again"):
            write(ours, users(4))


def test_messages_become_the_rows_that_stock_makes_of_them(tmp_path):
    for folder in ("ours", "stock"):
        (tmp_path / folder).mkdir()
    ours, stock = open_store(tmp_path / "ours", SMALL), open_store(tmp_path / "stock", SMALL, kind="sqlite")
    rows = _convert_arrow_to_proto(users(30), SMALL, join_keys_of(SMALL))
    del rows[7][1]["visits"]
    seen = []
    ours.store.online_write_batch(ours.config, SMALL, rows, seen.append)
    SqliteOnlineStore.online_write_batch(stock.store, stock.config, SMALL, rows, None)
    assert sum(seen) == 30
    assert len(dump(ours.path)) == 30 * 4 - 1
    assert dump(ours.path) == dump(stock.path)


@pytest.mark.parametrize("field", ["float_val", "double_val"])
def test_texts_of_numbers_are_those_of_python(field):
    messages = [Value(**{field: number}) for number in (1 / 3, -0.0, 1e-30, 123456789.125, 1e16)]
    cells = pa.array([message.SerializeToString() for message in messages], pa.binary())
    for part in (slice(None), slice(2, 4)):
        assert value_texts(cells[part]) == [str(getattr(message, field)) for message in messages[part]]
