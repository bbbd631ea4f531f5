"""A SQLite file that is killed, locked, full, damaged or missing."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from feast.types import Int64
from sqlite_tables import (
    NOON,
    SMALL,
    fetch,
    keys_of,
    open_store,
    scores,
    users,
    view_of,
    write,
)

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.rows import encode_rows
from segmenter_plugin.store.sqlite_file import Readers


@pytest.fixture
def ours(tmp_path: Path) -> SimpleNamespace:
    """An empty store of ours, with the table of `SMALL`."""
    (tmp_path / "ours").mkdir()
    return open_store(tmp_path / "ours", SMALL)


KILLED = """
import sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sqlite_tables import NOON, SMALL, open_store, users
from segmenter_plugin.store import sqlite_rows
from segmenter_plugin.store.rows import encode_rows
sqlite_rows.TRANSACTION_S = 0  # each batch is a transaction
store = open_store(Path(sys.argv[2]), apply=False)
with store.store.writer(store.config, SMALL) as writer:
    for day in range(1, 1000):
        rows = encode_rows(users(5_000, NOON + timedelta(days=day), value=day), SMALL)
        print(day, flush=True)
        writer.write(rows)
"""


def test_a_writer_killed_in_the_middle_leaves_whole_batches_and_can_run_again(ours):
    write(ours, users(5_000, value=0))
    here = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", KILLED, here, str(ours.path.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 3:
                break
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    keys = keys_of(users(5_000))
    (left,) = set(scores(ours, keys))
    assert left in (2, 3, 4)
    assert fetch(ours, keys[:1]).event_times[0] is not None
    assert write(ours, users(5_000, NOON + timedelta(days=2000), value=9)) == [5_000]
    assert set(scores(ours, keys)) == {9}
    with sqlite3.connect(ours.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_without_apply_the_hint_is_feast_apply(tmp_path):
    missing = open_store(tmp_path, apply=False)
    for call in (lambda: write(missing, users(1)), lambda: fetch(missing, [b"k"])):
        with pytest.raises(StoreError, match="feast apply"):
            call()
    assert not missing.path.exists()
    other = open_store(tmp_path, view_of({"x": Int64}, name="other"))
    for call in (lambda: write(other, users(1)), lambda: fetch(other, [b"k"])):
        with pytest.raises(StoreError, match=r"no such table: team_taste(.|\n)*feast apply"):
            call()


def test_a_lock_that_another_process_keeps_is_said(ours, monkeypatch):
    monkeypatch.setattr("segmenter_plugin.store.sqlite_file.BUSY_S", 0.05)
    write(ours, users(1))
    other = sqlite3.connect(ours.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked by another writer(.|\n)*run again"):
        write(ours, users(1))
    assert scores(ours, keys_of(users(1))) == [0.1], "who reads is not kept out"
    other.execute("ROLLBACK")
    other.close()
    assert write(ours, users(1)) == [1]


def test_a_full_disk_is_said_and_what_was_online_stays(ours):
    write(ours, users(100, value=0.1))
    with ours.store.writer(ours.config, SMALL) as writer:
        writer._connection.execute("PRAGMA max_page_count = 30")
        with pytest.raises(StoreError, match=r"cannot grow(.|\n)*make room"):
            writer.write(encode_rows(users(5_000, NOON + timedelta(days=1), value=0.2), SMALL))
    assert set(scores(ours, keys_of(users(100)))) == {0.1}


def test_a_file_that_may_not_be_written_is_said(ours):
    write(ours, users(1))
    with ours.store.writer(ours.config, SMALL) as writer:
        writer._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(StoreError, match=r"cannot be written(.|\n)*right to write"):
            writer.write(encode_rows(users(1), SMALL))


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "online.db").write_bytes(b"something else, longer than a header" * 100)
    with pytest.raises(StoreError, match="is no SQLite file"):
        fetch(open_store(tmp_path, apply=False), [b"k"])


def test_connections_are_lent_again_and_closed_when_they_come_back(ours):
    write(ours, users(1))
    readers = Readers(str(ours.path))
    with readers.snapshot() as first, readers.snapshot() as second:
        assert first is not second
    with readers.snapshot() as again:
        assert again in (first, second)
        readers.close()
    for connection in (first, second):
        with pytest.raises(sqlite3.ProgrammingError):
            connection.execute("SELECT 1")
