"""The SQLite store: whole rows, in the order asked, also while others write."""

from __future__ import annotations

import sqlite3
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64
from sqlite_tables import (
    NOON,
    SMALL,
    fetch,
    keys_of,
    open_store,
    scores,
    stock_beside,
    users,
    view_of,
    write,
    write_stock,
)

from segmenter_plugin.store import sqlite as fast
from segmenter_plugin.store import sqlite_file, sqlite_rows
from segmenter_plugin.store.rows import encode_rows
from segmenter_plugin.store.wire import decode_time


@pytest.fixture
def ours(tmp_path: Path) -> SimpleNamespace:
    """An empty store of ours, with the table of `SMALL`."""
    (tmp_path / "ours").mkdir()
    return open_store(tmp_path / "ours", SMALL)


def test_what_stock_reads_from_ours_is_what_ours_reads_from_stock(tmp_path):
    for folder in ("ours", "stock"):
        (tmp_path / folder).mkdir()
    batch = users(20)
    ours, stock = open_store(tmp_path / "ours", SMALL), open_store(tmp_path / "stock", SMALL, kind="sqlite")
    write(ours, batch)
    write_stock(stock, batch)
    keys = [*keys_of(batch), b"nobody"]
    messages = [deserialize_entity_key(key, 3) for key in keys[:-1]]
    by_stock = stock_beside(ours).store.online_read(stock_beside(ours).config, SMALL, messages)
    reader = open_store(tmp_path / "stock", apply=False)
    found = fetch(reader, keys)
    for i, (at, values) in enumerate(by_stock):
        ours_read = {f.name: Value.FromString(cells[i]) for f, cells in zip(SMALL.features, found.cells, strict=True)}
        assert ours_read == values
        assert decode_time(found.event_times[i]) == at.timestamp() * 10**9
    assert [cells[-1] for cells in found.cells] == [None] * 4
    assert found.event_times[-1] is None


def test_keys_are_answered_in_the_order_asked_and_as_often(ours):
    first, second = users(2, value=0.1), users(4, value=0.2).slice(2)
    write(ours, first)
    write(ours, second)
    keys = [keys_of(second)[0], b"nobody", keys_of(first)[0], keys_of(second)[0]]
    assert scores(ours, keys) == [0.2, None, 0.1, 0.2]
    assert fetch(ours, []).cells == [[], [], [], []]


def test_a_null_differs_from_a_feature_that_was_never_written(ours):
    batch = users(1).set_column(4, "score", pa.array([None], pa.float32()))
    write(ours, batch)
    with sqlite3.connect(ours.path) as connection:
        connection.execute("DELETE FROM team_taste WHERE feature_name = 'visits'")
    connection.close()
    for features, cells in ((("score", "visits"), [b"", None]), (("visits", "score"), [None, b""])):
        found = fetch(ours, keys_of(batch), *features)
        assert [list(column) for column in found.cells] == [[cell] for cell in cells]
        assert decode_time(found.event_times[0]) == NOON.timestamp() * 10**9
    assert fetch(ours, keys_of(batch), "visits").event_times == [None]


def test_many_features_take_several_statements(tmp_path):
    names = [f"f{i:03d}" for i in range(150)]
    wide = view_of(dict.fromkeys(names, Int64))
    store = open_store(tmp_path, wide)
    fixed = {name: users(5).column(name) for name in ("user_id", "event_timestamp", "created")}
    batch = pa.record_batch(fixed | {name: pa.array([i] * 5) for i, name in enumerate(names)})
    write(store, batch, view=wide)
    found = fetch(store, [b"nobody", *keys_of(users(5))], view=wide)
    assert [Value.FromString(cells[1]).int64_val for cells in found.cells] == list(range(150))
    assert found.event_times[0] is None
    assert len(set(found.event_times[1:])) == 1


def test_forty_thousand_users_in_one_call(ours):
    batch = users(40_000)
    assert write(ours, batch) == [40_000]
    found = fetch(ours, [b"nobody", *keys_of(batch)])
    assert [sum(cell is not None for cell in cells) for cells in found.cells] == [40_000] * 4
    assert found.event_times.count(None) == 1


def test_stock_reads_and_writes_a_file_of_ours_while_we_do(ours, monkeypatch):
    write(ours, users(10, value=0.1))
    stock = stock_beside(ours)
    monkeypatch.setattr(sqlite_rows, "TRANSACTION_S", 0)
    with ours.store.writer(ours.config, SMALL) as writer:
        writer.write(encode_rows(users(10, value=0.2), SMALL))
        write_stock(stock, users(10, value=0.3))
        writer.write(encode_rows(users(5, NOON + timedelta(days=1), value=0.4), SMALL))
        read = stock.store.online_read(stock.config, SMALL, [deserialize_entity_key(k, 3) for k in keys_of(users(10))])
        writer.finish()
    assert sorted(round(values["score"].float_val, 3) for _, values in read) == [0.3] * 5 + [0.4] * 5


def test_eight_readers_see_whole_rows_while_a_batch_is_written(ours):
    count = 3_000
    write(ours, users(count, value=1))
    keys = keys_of(users(count))[::11]
    stop, problems, lookups = threading.Event(), [], []

    def read() -> None:
        done = 0
        try:
            while not stop.is_set():
                found = fetch(ours, keys)
                rows = zip(*found.cells, strict=True)
                for embedding, score, visits, model in rows:
                    value = Value.FromString(score).float_val
                    whole = (
                        list(Value.FromString(embedding).float_list_val.val) == [value, value]
                        and Value.FromString(visits).int64_val == value * 10
                        and Value.FromString(model).string_val == f"m{int(value)}"
                    )
                    assert whole
                # A lookup is of one moment, and a batch is a transaction.
                assert len(set(found.cells[1])) == 1
                done += 1
        except Exception as error:  # noqa: BLE001 (shown below)
            problems.append(error)
        lookups.append(done)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for value in range(2, 12):
        write(ours, users(count, NOON + timedelta(days=value), value=value))
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert min(lookups) > 0


def test_teardown_removes_all_files_and_a_new_store_starts_empty(ours):
    write(ours, users(10))
    fetch(ours, keys_of(users(10)))
    other = open_store(ours.path.parent, apply=False)  # another process that still reads
    fetch(other, keys_of(users(10)))
    ours.store.teardown(ours.config, [SMALL], [])
    assert not [path.name for path in ours.path.parent.glob("online.db*")]
    ours.store.update(ours.config, [], [SMALL], [], [], True)
    assert scores(other, keys_of(users(1))) == [None], "the other one notices"


def test_chunks_of_a_lookup_join_up(ours, monkeypatch):
    monkeypatch.setattr(fast, "KEYS_PER_STATEMENT", 37)
    monkeypatch.setattr(fast, "FEATURES_PER_STATEMENT", 3)
    write(ours, users(200))
    shuffled = np.random.default_rng(0).permutation(np.array([*keys_of(users(200)), b"nobody"], dtype=object)).tolist()
    found = fetch(ours, shuffled)
    monkeypatch.undo()
    whole = fetch(ours, shuffled)
    assert [list(cells) for cells in found.cells] == [list(cells) for cells in whole.cells]
    assert found.event_times == whole.event_times


def test_a_lookup_in_progress_and_a_commit_do_not_wait_for_each_other(ours, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    keys = keys_of(users(3))
    write(ours, users(3, value=0.1))
    count = "SELECT count(*) FROM team_taste"
    with sqlite_file.Readers(str(ours.path)).snapshot() as stays:
        assert stays.execute(count).fetchone() == (12,)
        write(ours, users(6, NOON + timedelta(days=1), value=0.2))
        assert stays.execute(count).fetchone() == (12,)
    assert scores(ours, keys) == [0.2] * 3
