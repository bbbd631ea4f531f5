"""A bucket's segments put together: equal to one segment of all events, in whatever lots these came."""

from __future__ import annotations

from datetime import timedelta

import block_world
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.bucket_block import BucketBlock, concatenated
from segmenter_plugin.data.event_block import EventBlock

DAY = timedelta(days=1)
COMPLETE = block_world.CUTOFF + 8 * DAY
MOST = 3


def world(*, with_ids: bool):
    """A configuration with a low cap of a day."""
    tree = block_world.dense_config().model_dump()
    tree["events"]["max_events_per_day"] = MOST
    if not with_ids:
        tree["events"]["columns"]["event_id"] = None
    return type(block_world.dense_config()).model_validate(tree)


def as_segment(table, config):
    """What cleaning stores of a lot."""
    return EventBlock.of(table, config).distinct().capped(config.events.max_events_per_day).to_table(config)


def messy(config, random, seed):
    """Events with repeats, and corrections: the same event_id with another time or price."""
    table = block_world.dense_events(config, seed, users=12, rows=400).select(block_world.clean_schema(config).names)
    again = table.take(pa.array(random.integers(0, len(table), 60)))
    moved = table.take(pa.array(random.integers(0, len(table), 60)))
    shift = pa.array(random.choice([-3, -1, 1, 3], len(moved)) * 86_400_000_000, pa.duration("us"))
    times = pa.array(moved["event_timestamp"].to_pylist(), pa.timestamp("us", tz="UTC"))
    moved = moved.set_column(1, "event_timestamp", pa.compute.add(times, shift))
    place = table.column_names.index("amount")
    repriced = again.set_column(place, "amount", pa.array(random.choice([0.1, 7.0, 8.0], len(again))))
    return pa.concat_tables([table, again, moved, repriced])


def tables(bucket, config, cutoffs):
    return [(made.behaviour, made.labels) for made in tables_as_of(bucket.resolved, cutoffs, COMPLETE, config)]


@pytest.mark.parametrize("with_ids", [True, False], ids=["event ids", "no event ids"])
def test_a_chain_of_increments_equals_a_rebuild_each_day(with_ids):
    config = world(with_ids=with_ids)
    start = block_world.CUTOFF - 4 * DAY

    # A failure is not shrunk: a seed does not get simpler.
    @settings(max_examples=10, phases=[Phase.generate], database=None, derandomize=True)
    @given(seed=st.integers(0, 2**16), days=st.integers(6, 10), merges=st.sets(st.integers(0, 9)))
    def check(seed, days, merges):
        random = np.random.default_rng(seed)
        events = messy(config, random, seed)
        # Events come on any day, so most are late or far ahead.
        day_of = random.integers(0, days, len(events))
        segments, come = [], []
        for day in range(days):
            lot = events.filter(pa.array(day_of == day))
            segments.append(as_segment(lot, config))
            come.append(lot)
            bucket = BucketBlock.of(segments, config)
            rebuilt = BucketBlock.of([as_segment(pa.concat_tables(come), config)], config)
            cutoffs = [start + day * DAY, start + (day + 1) * DAY]
            assert tables(bucket, config, cutoffs) == tables(rebuilt, config, cutoffs)
            assert bucket.stored.to_table(config).to_pylist() == rebuilt.stored.to_table(config).to_pylist()
            if day in merges:
                segments = [bucket.stored.to_table(config)]

    check()


def test_each_rule_counts_what_it_drops():
    """Two segments of one user: one row in both, one day that only together is too full, one corrected event."""
    config = world(with_ids=True)
    row = dict.fromkeys(block_world.clean_schema(config).names)
    row |= {"user_id": "a", "event_type": "view"}
    morning = block_world.CUTOFF - 2 * DAY
    minutes = [row | {"event_timestamp": morning + number * timedelta(minutes=1)} for number in range(MOST + 1)]
    first = row | {"event_timestamp": morning - DAY, "event_id": "e", "amount": 1.0}
    later = row | {"event_timestamp": morning + DAY, "event_id": "e", "amount": 2.0, "event_type": "purchase"}
    lots = [[*minutes[:2], first], [*minutes[1:], later]]
    schema = block_world.clean_schema(config)
    bucket = BucketBlock.of([pa.Table.from_pylist(lot, schema=schema) for lot in lots], config)
    assert (bucket.duplicates, bucket.capped, bucket.corrected) == (1, 1, 1)
    assert bucket.types() == {"view": MOST + 1}
    assert len(bucket.resolved) == MOST + 1


def test_segments_may_differ_in_what_is_a_dictionary():
    plain = pa.table({"a": ["x", "y"], "b": [1, 2]})
    coded = plain.set_column(0, "a", plain["a"].dictionary_encode())
    assert concatenated([plain, coded])["a"].to_pylist() == ["x", "y"] * 2
    assert concatenated([plain, plain])["a"].type == pa.string()
