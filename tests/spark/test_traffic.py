"""Counting over the files of the event log: what segments hold together is what one segment of all would hold."""

from __future__ import annotations

from datetime import timedelta

import block_world
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from segmenter_plugin.data.bucket_block import BucketBlock
from segmenter_plugin.data.segment_part import write_events
from segmenter_plugin.data.value_traffic import count_names
from segmenter_plugin.spark.traffic import TrafficTask, count_traffic

CUTOFF, DAY = block_world.CUTOFF, timedelta(days=1)
CUTOFFS = (CUTOFF - 10 * DAY, CUTOFF - timedelta(hours=7))


def config_of(most):
    windows = {"observation_days": 20, "activity_days": [1], "trend_columns": ["item_id", "brand"]}
    config = block_world.dense_config(windows=windows, tasks=[])
    return config.model_copy(update={"events": config.events.model_copy(update={"max_events_per_day": most})})


def segment(path, events, config):
    """A file of a segment, as cleaning writes it; returned as the path."""
    write_events(BucketBlock.of([events], config).stored.to_table(config), path)
    return path


def in_order(counts):
    return counts.sort_by([("column", "ascending"), ("value", "ascending")]).combine_chunks()


@pytest.mark.parametrize("most", [2, None])
def test_segments_count_as_one_segment_of_all(tmp_path, most):
    """Also where only together they reach the cap of a day, and where they repeat each other's rows."""
    config = config_of(most)
    events = block_world.dense_events(config, seed=4, users=12, rows=900)
    young = pa.concat_tables([events.slice(500), events.slice(100, 50)])
    parts = [segment(tmp_path / "a", events.slice(0, 500), config), segment(tmp_path / "b", young, config)]
    whole = [segment(tmp_path / "whole", events, config)]
    task = TrafficTask(config, CUTOFFS)
    counts = in_order(task(whole))
    assert in_order(task(parts)).equals(counts)
    assert set(counts["column"].to_pylist()) == {"item_id", "brand"}
    uncapped = in_order(TrafficTask(config_of(None), CUTOFFS)(parts))
    assert uncapped.equals(counts) == (most is None)


def test_buckets_are_added_up(spark, tmp_path):
    config = config_of(None)
    events = block_world.dense_events(config, seed=9, users=30, rows=600)
    users = sorted(set(events["user_id"].to_pylist()))
    buckets = [events.filter(pc.is_in(events["user_id"], pa.array(users[place::3]))) for place in range(3)]
    parts = [
        (place, {1: segment(tmp_path / f"{place}.parquet", bucket, config)}) for place, bucket in enumerate(buckets)
    ]
    found = count_traffic(spark, parts, CUTOFFS, config)
    whole = TrafficTask(config, CUTOFFS)([segment(tmp_path / "whole", events, config)])
    for name, traffic in found.items():
        expected = {
            row["value"]: [row[each] for each in count_names(len(CUTOFFS))]
            for row in whole.filter(pc.equal(whole["column"], name)).to_pylist()
        }
        flat = traffic.user_days.reshape(2 * 3, -1)
        assert {value: flat[:, place].tolist() for place, value in enumerate(traffic.values.to_pylist())} == expected
        assert expected
