"""The two halves of cleaning without Spark: any cut into tasks and batches gives the same files and counts."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import segment_world as world
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data import event_intake, segment_part
from segmenter_plugin.data.segment_part import appearing, write_events
from segmenter_plugin.data.user_buckets import buckets_of


@st.composite
def cut_rows(draw):
    """Rows in tasks of batches, some of them empty."""
    rows = draw(world.ROWS)
    ends = [0, *sorted(draw(st.lists(st.integers(0, len(rows)), max_size=5))), len(rows)]
    batches = [world.raw_table(rows[start:end]) for start, end in pairwise(ends)]
    return rows, [batches[::2], batches[1::2]]


@pytest.mark.parametrize("flush_rows", [1, 10, 1 << 20])
def test_equals_the_whole_in_one_piece(monkeypatch, flush_rows):
    monkeypatch.setattr(event_intake, "_FLUSH_ROWS", flush_rows)

    @settings(max_examples=60)
    @given(cut_rows(), st.sampled_from([1, 2, 3, None]), st.integers(1, 5))
    def check(cut, most, buckets):
        rows, tasks = cut
        config = world.segment_config(most)
        with TemporaryDirectory() as folder:
            events, quarantine = Path(folder, "e"), Path(folder, "q")
            events.mkdir()
            quarantine.mkdir()
            counts, parts = world.in_tasks(tasks, config, buckets, events, quarantine)
            found = world.written(events, quarantine)
            named = {int(name[5:10]): rows for name, rows in world.files_of(events).items()}
        for bucket, users in named.items():
            of = buckets_of(pa.array([row["user_id"] for row in users], pa.string()), buckets)
            assert set(of.tolist()) == {bucket}
        check_counts(world.expected(world.raw_table(rows), config), found, counts, parts)

    check()


def check_counts(expected, found, counts, parts):
    assert found["events"] == expected["events"]
    assert found["refused"] == expected["refused"]
    for name in ("kept", "capped", "users"):
        assert sum(part[name] for part in parts) == expected[name], name
    bots = sorted((bot["user_id"], bot["day"], bot["events"]) for part in parts for bot in part["bots"])
    assert bots == expected["bots"]
    assert sum(count["rows"] for count in counts) == expected["rows"]
    for name in ("quarantined", "unreadable"):
        assert dict(sum((Counter(count[name]) for count in counts), Counter())) == expected[name], name


def test_a_file_is_in_order_and_of_small_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(segment_part, "ROWS_PER_GROUP", 100)
    users = [f"user-{number:04d}" for number in range(1000)]
    table = pa.table(
        {
            "user_id": pa.array(users).dictionary_encode(),
            "event_timestamp": pa.array([world.MIDNIGHT] * 1000, pa.timestamp("us", "UTC")),
            "event_id": users,
        }
    )
    write_events(table, tmp_path / "part-00000.parquet")
    found = pq.read_table(tmp_path / "part-00000.parquet", partitioning=None)
    assert found.to_pylist() == table.to_pylist()
    assert pa.types.is_dictionary(found.schema.field("user_id").type)
    metadata = pq.read_metadata(tmp_path / "part-00000.parquet")
    assert metadata.num_row_groups == math.ceil(1000 / 100)
    group = metadata.row_group(3)
    assert group.column(0).statistics.min == "user-0300"
    # Each row group's dictionary holds its own hundred users, not all thousand.
    assert group.column(0).total_uncompressed_size < 100 * (4 + 9) + 300


def test_what_fails_leaves_nothing(tmp_path):
    def half_write():
        with appearing(tmp_path / "part-00000.parquet") as aside:
            aside.write_text("half", encoding="utf-8")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        half_write()
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_of_refused_rows_only(tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "q").mkdir()
    config = world.segment_config()
    rows = world.raw_table([dict.fromkeys(world.RAW.names)] * 3)
    counts, parts = world.in_tasks([[rows]], config, 4, tmp_path / "e", tmp_path / "q")
    assert (counts[0]["quarantined"], counts[0]["first"]) == ({"user_id_missing": 3}, None)
    assert [part["kept"] for part in parts] == [0]
    assert list((tmp_path / "e").iterdir()) == []
    assert len(world.files_of(tmp_path / "q")["part-00000.parquet"]) == 3


def test_a_repeated_task_writes_the_same(tmp_path):
    config = world.segment_config()
    row = {"note": "x", "customer": "anna", "at": world.MIDNIGHT, "kind": "seen", "sku": "a"}
    rows = world.raw_table([row, row | {"sku": "b"}, row | {"customer": None}])
    events, quarantine = (tmp_path / name for name in ("e", "q"))
    events.mkdir()
    quarantine.mkdir()
    for _ in range(2):
        world.in_tasks([[rows]], config, 1, events, quarantine)
        assert {name: len(found) for name, found in world.files_of(events).items()} == {"part-00000.parquet": 2}
        assert {name: len(found) for name, found in world.files_of(quarantine).items()} == {"part-00000.parquet": 1}
