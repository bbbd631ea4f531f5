"""Two passes over files give what DuckDB's window function gives, in full batches."""

import itertools
from datetime import timedelta

import ibis
import pyarrow as pa
import pytest
from engine_world import DAY, NOON, TIME, config_of, rows_of, source_of, view_of, write
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.files import source_files
from segmenter_plugin.store.latest import LatestOfFiles, LatestOfQuery
from segmenter_plugin.store.scan import ParquetScan, SourceColumns, Window

WINDOW = (NOON - DAY, NOON + DAY)
WHOLE = (NOON - 99 * DAY, NOON + 99 * DAY)


def of_files(folder, window=WINDOW, **options):
    source = source_of(folder / "*.parquet", **options)
    view = view_of(source)
    columns, times = SourceColumns.of(view), Window.of(*window)
    return LatestOfFiles(ParquetScan(source_files(source, None), columns, times), view, columns, times)


def of_query(folder, window=WINDOW):
    source = source_of(folder / "*.parquet")
    columns = SourceColumns.of(view_of(source))
    job = DuckDBOfflineStore.pull_latest_from_table_or_query(
        config_of(folder),
        source,
        list(columns.keys.values()),
        list(columns.features.values()),
        columns.event,
        columns.created,
        *window,
    )
    return LatestOfQuery(job.table, columns)


def names(rows, batch_rows=100):
    rows.choose(lambda _: None)
    return sorted(name for batch in rows.batches(batch_rows) for name in batch.column("name").to_pylist())


times = st.sampled_from([NOON - DAY - timedelta(microseconds=1), NOON - DAY, NOON, NOON + DAY, NOON + 2 * DAY, None])


@settings(max_examples=25)
@given(
    files=st.lists(st.lists(st.tuples(st.sampled_from("abc"), times), min_size=1, max_size=8), min_size=1, max_size=3),
    batch_rows=st.integers(1, 9),
)
def test_the_rows_are_those_that_duckdb_chooses(tmp_path_factory, files, batch_rows):
    folder = tmp_path_factory.mktemp("rows")
    number = itertools.count()
    for i, rows in enumerate(files):
        users, events = zip(*rows, strict=True)
        places = [next(number) for _ in rows]
        # No two rows are of one age, as DuckDB takes any of those.
        table = rows_of(users, events, [NOON + timedelta(seconds=(7 * place) % 31) for place in places])
        table = table.set_column(4, "name", pa.array([f"row {place}" for place in places]))
        write(folder / f"{i}.parquet", table, row_group_size=3)
    assert names(of_files(folder), batch_rows) == names(of_query(folder), batch_rows)


def test_of_rows_of_one_age_the_last_stays_and_no_created_time_is_the_oldest(tmp_path):
    write(tmp_path / "a.parquet", rows_of(["a", "a", "b", "b"], [NOON] * 4, [NOON, NOON, NOON, None]))
    assert names(of_files(tmp_path)) == ["row 1", "row 2"]
    write(tmp_path / "b.parquet", rows_of(["c", "a"], [NOON] * 2).drop_columns("created_timestamp"))
    (tmp_path / "a.parquet").unlink()
    assert names(of_files(tmp_path, created_timestamp_column="")) == ["row 0", "row 1"]


def test_rows_outside_the_window_change_nothing(tmp_path):
    write(tmp_path / "b.parquet", rows_of(list("abca"), [NOON, NOON, NOON - DAY, NOON + DAY]))
    before = names(of_files(tmp_path))
    write(tmp_path / "a.parquet", rows_of(list("abcd"), [NOON + 2 * DAY, NOON - 2 * DAY, None, NOON + 3 * DAY]))
    write(tmp_path / "c.parquet", rows_of(["z"], [NOON - 9 * DAY]))
    assert names(of_files(tmp_path)) == before == ["row 1", "row 2", "row 3"]


def test_few_rows_of_many_batches_are_put_together(tmp_path):
    for day in range(6):  # all but the last day's rows are superseded, except one user's a day
        users = [*range(40), 100 + day]
        table = rows_of([str(user) for user in users], [NOON - 5 * DAY + day * DAY] * 41)
        write(tmp_path / f"{day}.parquet", table, row_group_size=10)
    rows = of_files(tmp_path, (NOON - 9 * DAY, NOON))
    seen = []
    assert rows.choose(seen.append) == 46
    assert sum(seen) == rows.rows == 6 * 41
    sizes = [batch.num_rows for batch in rows.batches(16)]
    assert sum(sizes) == 46
    assert all(16 <= size < 32 for size in sizes[:-1])
    assert [batch.num_rows for batch in rows.batches(16)] == sizes  # again, as after a restart


def test_rows_without_a_key_are_counted_and_refused(tmp_path):
    write(tmp_path / "a.parquet", rows_of(["a", None, None], [NOON, NOON, NOON + 9 * DAY]))
    write(tmp_path / "b.parquet", rows_of([None, "b"], [NOON, NOON]))
    with pytest.raises(StoreError, match=r"^2 rows of the view 'taste' in this window lack a value of user_id"):
        of_files(tmp_path).choose(lambda _: None)


def test_an_empty_window_has_no_rows(tmp_path):
    write(tmp_path / "a.parquet", rows_of(["a"], [NOON]))
    rows = of_files(tmp_path, (NOON + DAY, NOON + DAY))
    assert rows.choose(lambda _: None) == 0
    assert list(rows.batches(10)) == []


def test_a_source_that_changes_between_the_passes_is_refused(tmp_path):
    write(tmp_path / "a.parquet", rows_of(list("abc"), [NOON] * 3))
    rows = of_files(tmp_path)
    rows.choose(lambda _: None)
    write(tmp_path / "a.parquet", rows_of(list("abc"), [NOON, NOON + timedelta(hours=1), NOON]))
    with pytest.raises(StoreError, match="1 rows are not what they were"):
        list(rows.batches(10))
    write(tmp_path / "a.parquet", rows_of(list("xyz"), [NOON] * 3))  # the same times, other users
    with pytest.raises(StoreError, match=r"a\.parquet"):
        list(rows.batches(10))


def test_batches_before_a_choice_are_refused(tmp_path):
    write(tmp_path / "a.parquet", rows_of(["a"], [NOON]))
    with pytest.raises(StoreError, match="nothing was chosen"):
        next(of_files(tmp_path).batches(10))


def test_a_query_streams_in_batches_and_can_be_asked_again():
    count = 5_000
    table = rows_of([str(i) for i in range(count)], [NOON] * count)
    columns = SourceColumns.of(view_of(source_of("any.parquet")))
    rows = LatestOfQuery(ibis.memtable(table), columns)
    assert rows.choose(lambda _: None) is None
    assert rows.rows is None
    assert rows.schema.field("event_timestamp").type == TIME
    for _ in range(2):
        batches = list(rows.batches(2_048))
        assert sum(batch.num_rows for batch in batches) == count
        assert len(batches) > 1
