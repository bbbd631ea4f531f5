"""Parquet rows come back in one order, found again by ordinal; the window's edges are inside."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_world import DAY, NOON, rows_of, source_of, view_of, write

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.files import source_files
from segmenter_plugin.store.newest import MISSING
from segmenter_plugin.store.scan import ParquetScan, SourceColumns, Window, bounds, micros

ALL = Window.of(NOON - 9 * DAY, NOON + 9 * DAY)
NAMES = ["user_id", "event_timestamp", "created_timestamp", "embedding", "name"]


def scan_of(folder, window=ALL, **options):
    source = source_of(folder / "*.parquet", **options)
    columns = SourceColumns.of(view_of(source))
    return ParquetScan(source_files(source, None), columns, window)


def read(scan, names=NAMES, batch_rows=4, ordinals=None):
    return list(scan.read(names, batch_rows, ordinals))


@pytest.fixture
def folder(tmp_path):
    """Two files, 10 and 7 rows, in row groups of three."""
    for name, count in (("a", 10), ("b", 7)):
        users = [f"{name}{i}" for i in range(count)]
        write(tmp_path / f"{name}.parquet", rows_of(users, [NOON + i * DAY for i in range(count)]), row_group_size=3)
    return tmp_path


def test_rows_come_in_order_with_their_ordinals(folder):
    scan = scan_of(folder, Window.of(NOON, NOON + 99 * DAY))
    batches = read(scan)
    assert scan.rows == 17
    assert [first for first, _ in batches] == [0, 4, 8, 10, 14]
    users = [user for _, batch in batches for user in batch.column("user_id").to_pylist()]
    assert users == [f"a{i}" for i in range(10)] + [f"b{i}" for i in range(7)]


def test_row_groups_without_a_wanted_row_are_left_out(folder):
    batches = read(scan_of(folder, Window.of(NOON, NOON + 99 * DAY)), ["user_id"], 100, np.array([4, 9, 16]))
    assert [(first, batch.column("user_id").to_pylist()) for first, batch in batches] == [
        (3, ["a3", "a4", "a5"]),
        (9, ["a9"]),
        (16, ["b6"]),
    ]


def test_neighbouring_row_groups_make_whole_batches(folder):
    batches = read(scan_of(folder, Window.of(NOON, NOON + 99 * DAY)), ["user_id"], 100, np.array([4, 7]))
    assert [(first, batch.num_rows) for first, batch in batches] == [(3, 6)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_row_groups_outside_the_window_are_never_read(tmp_path, unit, zone):
    table = rows_of([f"u{i}" for i in range(9)], [NOON + i * DAY for i in range(9)])
    times = table["event_timestamp"].cast(pa.timestamp("us"))
    times = times.cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone)) if zone is None else times
    column = pa.chunked_array([pa.array(times.to_pylist(), pa.timestamp(unit, zone))])
    table = table.set_column(1, "event_timestamp", column)
    write(tmp_path / "a.parquet", table, row_group_size=2)
    scan = scan_of(tmp_path, Window.of(NOON + 2 * DAY, NOON + 5 * DAY))
    users = [user for _, batch in read(scan) for user in batch.column("user_id").to_pylist()]
    assert users == ["u2", "u3", "u4", "u5"]
    assert scan.rows == 4


def test_a_file_without_statistics_is_read_whole(tmp_path):
    write(tmp_path / "a.parquet", rows_of(["a", "b"], [NOON, NOON]), write_statistics=False)
    assert scan_of(tmp_path, Window.of(NOON + DAY, NOON + DAY)).rows == 2


@pytest.mark.parametrize("type_", [pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("ms", "Asia/Tokyo")])
def test_both_ends_of_the_window_are_inside(type_):
    window = Window.of(NOON, NOON + DAY)
    times = [NOON - timedelta(milliseconds=1), NOON, NOON + DAY, NOON + DAY + timedelta(milliseconds=1), None]
    column = pa.array([time and time.replace(tzinfo=None) for time in times], pa.timestamp("us")).cast(
        pa.timestamp(type_.unit)
    )
    column = column.cast(pa.int64()).cast(type_)
    assert window.holds(micros(column)).tolist() == [False, True, True, False, False]


def test_a_window_in_another_zone_or_in_none_is_the_same_instant():
    tokyo = NOON.astimezone(ZoneInfo("Asia/Tokyo"))
    naive = NOON.replace(tzinfo=None)
    assert Window.of(NOON, NOON) == Window.of(tokyo, tokyo) == Window.of(naive, naive)
    assert Window.of(datetime(1969, 12, 31, 23, tzinfo=UTC), NOON).start_us == -3_600_000_000


def test_nanoseconds_are_cut_off_and_null_is_older_than_any_time():
    assert micros(pa.array([1_999, None], pa.timestamp("ns"))).tolist() == [1, MISSING]


def test_columns_take_the_view_s_names(tmp_path):
    table = rows_of(["a"], [NOON]).rename_columns(["customer", "ts", "made", "vector", "name"])
    write(tmp_path / "a.parquet", table)
    mapping = {"customer": "user_id", "ts": "event_time", "vector": "embedding"}
    names = {"timestamp_field": "ts", "created_timestamp_column": "made", "field_mapping": mapping}
    columns = SourceColumns.of(view_of(source_of(tmp_path, **names)))
    assert columns.needed == ["customer", "vector", "name", "ts", "made"]
    ((_, batch),) = read(scan_of(tmp_path, **names), columns.needed)
    assert batch.schema.names == ["user_id", "embedding", "name", "event_time", "made"]


def test_the_first_file_s_types_hold_and_dictionaries_are_unfolded(tmp_path):
    table = rows_of(["a"], [NOON])
    write(tmp_path / "a.parquet", table)
    other = table.set_column(4, "name", table["name"].dictionary_encode())
    other = other.set_column(3, "embedding", table["embedding"].cast(pa.list_(pa.float64())))
    write(tmp_path / "b.parquet", other)
    (_, first), (_, second) = read(scan_of(tmp_path))
    assert first.schema == second.schema
    assert first.schema.field("embedding").type == pa.list_(pa.float32())


def test_a_file_that_lacks_a_column_is_named(tmp_path):
    table = rows_of(["a"], [NOON])
    write(tmp_path / "a.parquet", table)
    write(tmp_path / "b.parquet", table.drop_columns("name"))
    with pytest.raises(StoreError, match=r"b.parquet' has no column name"):
        scan_of(tmp_path)


def test_a_half_written_file_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(StoreError, match=r"a.parquet' cannot be read as Parquet"):
        scan_of(tmp_path)


@pytest.mark.parametrize("row_group_size", [2, 100])
def test_a_file_that_became_shorter_or_vanished_is_noticed(folder, row_group_size):
    scan = scan_of(folder)
    write(folder / "b.parquet", rows_of(["x"] * 6, [NOON] * 6), row_group_size=row_group_size)
    with pytest.raises(StoreError, match="changed while it was read"):
        read(scan)
    (folder / "a.parquet").unlink()
    with pytest.raises(StoreError, match="changed while it was read"):
        read(scan)


def test_a_rewritten_file_is_noticed_afterwards(folder):
    scan = scan_of(folder)
    scan.require_unchanged()
    pq.write_table(pq.read_table(folder / "a.parquet"), folder / "a.parquet")
    with pytest.raises(StoreError, match=r"changed while it was read: .*a\.parquet"):
        scan.require_unchanged()


def test_bounds_of_ordinals_keep_their_type():
    ordinals = np.array([1, 5, 6, 9], np.uint32)
    assert bounds(ordinals, 5, 4) == (1, 3)
    assert bounds(ordinals, 10, 5) == (4, 4)
