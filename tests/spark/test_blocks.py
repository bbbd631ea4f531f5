"""Behaviour and labels, written by Spark's tasks from the event log's files of a bucket."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import block_world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.bucket_block import BucketBlock
from segmenter_plugin.spark.blocks import BlockTask, build_blocks, first_needed

DAY = timedelta(days=1)
CUTOFFS = [block_world.CUTOFF - DAY, block_world.CUTOFF]
COMPLETE = block_world.CUTOFF + 6 * DAY


@pytest.fixture(scope="module")
def config():
    return block_world.dense_config()


@pytest.fixture
def parts(config, tmp_path):
    """Two buckets: the first in one segment, the second in two that share rows."""
    found = []
    for number, ends in enumerate([[1_000], [600, 1_000]]):
        table = block_world.dense_events(config, seed=number, users=30, rows=1_000)
        users = pa.array([f"{number}-{user}" for user in table["user_id"].to_pylist()])
        table = table.set_column(0, "user_id", users)
        paths = {}
        for segment, end in enumerate(ends, start=1):
            rows = table.slice(0 if segment == 1 else 500, end)
            paths[segment] = tmp_path / f"bucket-{number}-segment-{segment}.parquet"
            pq.write_table(BucketBlock.of([rows], config).stored.to_table(config), paths[segment])
        found.append((number, paths))
    return found


@pytest.fixture
def task(config, tmp_path):
    folders = {
        cutoff: {name: tmp_path / f"{name}-{number}" for name in ("behaviour", "labels")}
        for number, cutoff in enumerate(CUTOFFS)
    }
    for made in folders.values():
        for folder in made.values():
            folder.mkdir()
    return BlockTask(config, since=None, until=None, complete_through=COMPLETE, folders=folders)


def read(paths):
    return [pq.read_table(path) for path in paths.values()]


def written(task):
    return {
        str(path.relative_to(path.parents[1])): pq.read_table(path)
        for made in task.folders.values()
        for folder in made.values()
        for path in folder.iterdir()
    }


def test_each_bucket_gives_its_users_rows_at_every_cutoff(spark, config, parts, task):
    found = build_blocks(spark, parts, task)
    expected = {}
    for counts, (number, paths) in zip(found, parts, strict=True):
        bucket = BucketBlock.of(read(paths), config)
        for place, tables in enumerate(tables_as_of(bucket.resolved, CUTOFFS, COMPLETE, config)):
            expected[f"behaviour-{place}/part-{number:05d}.parquet"] = tables.behaviour
            expected[f"labels-{place}/part-{number:05d}.parquet"] = tables.labels
            assert counts.users[CUTOFFS[place]] == tables.behaviour.num_rows
            assert counts.labels[CUTOFFS[place]]["cart_3d_label"]["known"] == tables.labels.num_rows
        assert counts.events == sum(table.num_rows for table in read(paths))
        assert (counts.kept, counts.corrected) == (len(bucket.stored), bucket.corrected)
        assert (counts.duplicates > 0) == (number == 1)
        assert sum(counts.types.values()) == len(bucket.resolved)
    made = written(task)
    assert made.keys() == expected.keys()
    for name, table in expected.items():
        # In memory the text in lists is a dictionary.
        assert made[name].equals(table.cast(made[name].schema)), name


def test_a_task_that_is_repeated_writes_the_same_again(parts, task, tmp_path):
    (tmp_path / "merged").mkdir()
    merging = replace(task, merge_into=tmp_path / "merged")
    first = merging(parts[1]), written(task), pq.read_table(tmp_path / "merged")
    again = merging(parts[1]), written(task), pq.read_table(tmp_path / "merged")
    assert first[1:] == again[1:]
    assert replace(first[0], seconds=0, cpu_seconds=0) == replace(again[0], seconds=0, cpu_seconds=0)


def test_merged_segments_give_the_same(config, parts, task, tmp_path):
    (tmp_path / "merged").mkdir()
    counts = replace(task, merge_into=tmp_path / "merged")(parts[1])
    before = written(task)
    merged = tmp_path / "merged" / "part-00001.parquet"
    assert pq.read_metadata(merged).num_rows == counts.kept
    again = task((1, {3: merged}))
    assert written(task) == before
    assert (again.events, again.duplicates, again.corrected) == (counts.kept, 0, counts.corrected)


def test_what_is_not_asked_for_is_not_written(parts, task):
    folders = {cutoff: {"labels": made["labels"]} for cutoff, made in task.folders.items()}
    replace(task, folders=folders)(parts[1])
    assert sorted(written(task)) == ["labels-0/part-00001.parquet", "labels-1/part-00001.parquet"]


def test_events_outside_the_bounds_are_not_read(parts, task):
    narrow = replace(task, since=CUTOFFS[1] - 2 * DAY, until=CUTOFFS[1])
    (table,) = read(parts[0][1])
    times = table["event_timestamp"].to_pylist()
    assert narrow(parts[0]).events == sum(CUTOFFS[1] - 2 * DAY <= time < CUTOFFS[1] for time in times)


def test_late_events_are_those_of_fresh_segments(parts, task):
    bounds = {"since": CUTOFFS[1] - 2 * DAY, "until": CUTOFFS[1]}
    late = replace(task, **bounds, fresh=frozenset({2}), late_before=CUTOFFS[0])(parts[1]).late
    assert late == sum(time < CUTOFFS[0] for time in pq.read_table(parts[1][1][2])["event_timestamp"].to_pylist())
    assert late > 0
    assert replace(task, **bounds, late_before=CUTOFFS[0])(parts[1]).late == 0


def test_users_who_are_not_there_yet_make_no_file(parts, task):
    long_ago = CUTOFFS[0] - 3_000 * DAY
    folder = {"behaviour": task.folders[CUTOFFS[0]]["behaviour"]}
    counts = replace(task, folders={long_ago: folder})(parts[0])
    assert counts.users == {long_ago: 0}
    assert written(task) == {}


@pytest.mark.parametrize("hours", [0, 7])
def test_what_is_not_needed_changes_nothing(config, parts, task, hours):
    """Without ids: a day is capped by all of its rows, so the day in which the first window begins is read whole."""
    tree = config.model_dump()
    tree["events"] |= {"max_events_per_day": 1, "columns": tree["events"]["columns"] | {"event_id": None}}
    few = type(config).model_validate(tree)
    moved = {CUTOFFS[1] + timedelta(hours=hours): task.folders[CUTOFFS[1]]}
    everything = replace(task, config=few, folders=moved)
    everything(parts[1])
    expected = written(task)
    since = first_needed(min(moved) - timedelta(days=few.windows.observation_days), few)
    counts = replace(everything, since=since, until=few.labels_end(max(moved)))(parts[1])
    assert counts.events < sum(table.num_rows for table in read(parts[1][1]))
    assert counts.capped > 0
    assert written(task) == expected


def test_whole_days_are_read_and_all_events_where_an_id_may_point_back(config):
    noon = block_world.CUTOFF + timedelta(hours=12)
    assert first_needed(noon, config) is None
    assert first_needed(noon, block_world.spark_world.world_config()) == block_world.CUTOFF
