import block_world
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.event_block import EventBlock, event_columns, microseconds, places_of, running
from segmenter_plugin.errors import SchemaError

CUTOFF = block_world.CUTOFF


@pytest.fixture(params=[False, True], ids=["text users", "whole users"])
def events(request):
    return block_world.dense_events(block_world.dense_config(), seed=9, users=40, rows=800, whole=request.param)


def as_rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def key(value):
    return (value is not None, value.encode() if isinstance(value, str) else value or 0)


def test_rows_are_in_order_of_every_column(events):
    config = block_world.dense_config()
    block = EventBlock.of(events, config)
    expected = sorted(as_rows(events), key=lambda row: tuple(map(key, row)))
    assert as_rows(events.take(pa.array(block.rows))) == expected
    assert block.users.take(pa.array(block.owners)).to_pylist() == [row[0] for row in expected]
    assert block.times.tolist() == [microseconds(row[1]) for row in expected]
    place = event_columns(config).index
    assert block.words["category"].text().to_pylist() == [row[place("category")] for row in expected]
    weights = [None if np.isnan(weight) else weight for weight in block.numbers["weight"]]
    assert weights == [row[place("weight")] for row in expected]


def test_a_users_rows_before_a_time_are_a_range(events):
    block = EventBlock.of(events, block_world.dense_config())
    for time in {*block.times[::50].tolist(), microseconds(CUTOFF), int(block.times.max()) + 1, 0}:
        ends = block.before(time)
        for start, end, until in zip(block.offsets[:-1], ends, block.offsets[1:], strict=True):
            assert start <= end <= until
            assert (block.times[start:end] < time).all()
            assert (block.times[end:until] >= time).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), few=st.booleans())
def test_duplicates_are_dropped_as_plain_python_does(seed, few):
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed, users=3, rows=60)
    if few:  # so that whole rows repeat
        events = pa.concat_tables([events.slice(0, 10).select(events.column_names)] * 4)
    columns = event_columns(config)
    seen, kept = set(), []
    for row in sorted(as_rows(events), key=lambda row: tuple(map(key, row))):
        name = row[columns.index("event_id")]
        same = row if name is None else (row[0], name)
        if same not in seen:
            kept.append(row)
        seen.add(same)
    block = EventBlock.of(events, config).without_duplicates()
    assert as_rows(events.take(pa.array(block.rows))) == kept
    assert block.owners.tolist() == np.repeat(np.arange(len(block.users)), np.diff(block.offsets)).tolist()
    assert len(block) == len(block.numbers["weight"]) == len(block.words["item_id"].codes) == len(kept)
    assert block.without_duplicates() is block


def test_further_columns_tell_rows_apart():
    config = block_world.dense_config()
    row = block_world.dense_events(config, seed=1, rows=1).drop_columns("event_id")
    row = row.append_column("event_id", pa.nulls(1, pa.string())).select(event_columns(config))
    twice = pa.concat_tables([row, row])
    assert len(EventBlock.of(twice, config).without_duplicates()) == 1
    told_apart = twice.append_column("their_price", pa.array([1.0, -1.0]))
    assert len(EventBlock.of(told_apart, config).without_duplicates()) == 2


def test_a_missing_column_is_named(events):
    with pytest.raises(SchemaError, match=r"lack the columns \['brand'\]"):
        EventBlock.of(events.drop_columns("brand"), block_world.dense_config())


@pytest.mark.parametrize("name", ["user_id", "event_timestamp"])
def test_an_event_of_nobody_or_of_no_time_is_refused(events, name):
    place = events.column_names.index(name)
    holed = events.set_column(place, name, pa.nulls(len(events), events.schema.field(name).type))
    with pytest.raises(SchemaError, match=f"800 events have no {name}"):
        EventBlock.of(holed, block_world.dense_config())


def test_running_sums_start_at_nothing():
    assert running(np.array([True, False, True])).tolist() == [0, 1, 1, 2]
    assert running(np.array([2**40, 2**40])).tolist() == [0, 2**40, 2**41]


def test_places_of_ranges_follow_each_other():
    places, offsets = places_of(np.array([3, 9, 9]), np.array([5, 9, 12]))
    assert (places.tolist(), offsets.tolist()) == ([3, 4, 9, 10, 11], [0, 2, 2, 5])
