"""Behaviour and labels, written by Spark's tasks from files of clean events."""

from __future__ import annotations

from datetime import timedelta

import block_world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.spark.blocks import BlockTask, build_blocks

DAY = timedelta(days=1)
CUTOFFS = [block_world.CUTOFF - DAY, block_world.CUTOFF]
COMPLETE = block_world.CUTOFF + 6 * DAY


@pytest.fixture(scope="module")
def config():
    return block_world.dense_config()


@pytest.fixture
def files(config, tmp_path):
    """Two files, each with all events of its users."""
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for number, path in enumerate(paths):
        table = block_world.dense_events(config, seed=number, users=30, rows=2_000)
        users = pa.array([f"{number}-{user}" for user in table["user_id"].to_pylist()])
        pq.write_table(table.set_column(0, "user_id", users), path)
    return paths


@pytest.fixture
def task(config, tmp_path):
    folders = {
        cutoff: {name: tmp_path / f"{name}-{number}" for name in ("behaviour", "labels")}
        for number, cutoff in enumerate(CUTOFFS)
    }
    for made in folders.values():
        for folder in made.values():
            folder.mkdir()
    since, until = block_world.CUTOFF - 400 * DAY, block_world.CUTOFF + 400 * DAY
    return BlockTask(config, since, until, COMPLETE, folders)


def written(task):
    return {
        str(path.relative_to(path.parents[1])): pq.read_table(path)
        for made in task.folders.values()
        for folder in made.values()
        for path in folder.iterdir()
    }


def test_each_file_gives_its_users_rows_at_every_cutoff(spark, config, files, task):
    assert build_blocks(spark, files, task) == sum(pq.read_metadata(path).num_rows for path in files)
    expected = {}
    for number, path in enumerate(files):
        block = EventBlock.of(pq.read_table(path), config)
        for place, tables in enumerate(tables_as_of(block, CUTOFFS, COMPLETE, config)):
            expected[f"behaviour-{place}/part-{number:05d}.parquet"] = tables.behaviour
            expected[f"labels-{place}/part-{number:05d}.parquet"] = tables.labels
    found = written(task)
    assert found.keys() == expected.keys()
    assert all(found[name].equals(table) for name, table in expected.items())


def test_a_task_that_is_repeated_writes_the_same_again(files, task):
    task((0, files[0]))
    first = written(task)
    task((0, files[0]))
    assert written(task) == first


def test_what_is_not_asked_for_is_not_written(config, files, task):
    folders = {cutoff: {"labels": made["labels"]} for cutoff, made in task.folders.items()}
    BlockTask(config, task.since, task.until, COMPLETE, folders)((1, files[1]))
    assert sorted(written(task)) == ["labels-0/part-00001.parquet", "labels-1/part-00001.parquet"]


def test_events_outside_the_bounds_are_not_read(config, files, task):
    narrow = BlockTask(config, CUTOFFS[1] - 2 * DAY, CUTOFFS[1], COMPLETE, task.folders)
    times = pq.read_table(files[0])["event_timestamp"].to_pylist()
    assert narrow((0, files[0])) == sum(CUTOFFS[1] - 2 * DAY <= time < CUTOFFS[1] for time in times)


def test_users_who_are_not_there_yet_make_no_file(config, files, task):
    long_ago = CUTOFFS[0] - 3_000 * DAY
    folder = {"behaviour": task.folders[CUTOFFS[0]]["behaviour"]}
    BlockTask(config, task.since, task.until, COMPLETE, {long_ago: folder})((0, files[0]))
    assert written(task) == {}
