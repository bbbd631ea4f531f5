import block_world
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.event_block import EventBlock, event_columns, microseconds, places_of
from segmenter_plugin.data.event_order import running
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


@settings(max_examples=40)
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
    assert as_rows(block.to_table(config)) == kept


def test_a_row_that_equals_another_in_all_our_columns_is_a_duplicate():
    config = block_world.dense_config()
    row = block_world.dense_events(config, seed=1, rows=1).drop_columns("event_id")
    row = row.append_column("event_id", pa.nulls(1, pa.string())).select(event_columns(config))
    twice = pa.concat_tables([row, row]).append_column("their_price", pa.array([1.0, -1.0]))
    assert len(EventBlock.of(twice, config).without_duplicates()) == 1


def in_dictionaries(table, pieces, seed):
    """The table with its text in dictionaries, another one in each piece, with entries that no row uses."""
    random, chunks = np.random.default_rng(seed), []
    for piece in np.array_split(np.arange(len(table)), pieces):
        columns = {}
        for name in table.column_names:
            column = table[name].take(pa.array(piece)).combine_chunks()
            if pa.types.is_string(column.type):
                others = pa.concat_arrays([pa.array(["never"]), column, pa.array([None, "zz"])]).unique().drop_null()
                entries = others.take(pa.array(random.permutation(len(others))))
                column = pa.DictionaryArray.from_arrays(pc.index_in(column, entries), entries)
            columns[name] = column
        chunks.append(pa.table(columns))
    return pa.concat_tables(chunks)


def same(block, other):
    """Whether two blocks hold the same rows in the same order."""
    config = block_world.dense_config()
    tables = [some.to_table(config) for some in (block, other)]
    return block.users.equals(other.users) and as_rows(tables[0]) == as_rows(tables[1])


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([0, 1, 40, 400]), pieces=st.integers(1, 4))
def test_dictionaries_change_nothing(seed, rows, pieces):
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed, users=20, rows=rows)
    plain, coded = EventBlock.of(events, config), EventBlock.of(in_dictionaries(events, pieces, seed), config)
    assert same(plain, coded)
    assert coded.rows.tolist() == plain.rows.tolist()
    assert same(plain.without_duplicates(), coded.without_duplicates())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([0, 1, 30, 600]), whole=st.booleans())
def test_a_block_survives_as_a_table(seed, rows, whole):
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed, users=20, rows=rows, whole=whole)
    block = EventBlock.of(events, config)
    table = block.to_table(config)
    assert table.column_names == event_columns(config)
    assert as_rows(table) == as_rows(events.take(pa.array(block.rows)))
    again = EventBlock.of(table, config)
    assert again.rows.tolist() == list(range(len(events)))
    assert same(block, again)


def test_text_of_few_values_is_written_as_a_dictionary():
    config = block_world.dense_config()
    table = EventBlock.of(block_world.dense_events(config, seed=3), config).to_table(config)
    assert pa.types.is_dictionary(table.schema.field("item_id").type)
    few = EventBlock.of(block_world.dense_events(config, seed=3, rows=2), config).to_table(config)
    assert few.schema.field("item_id").type == pa.string()


def daily(events, most):
    """The first rows of each user's UTC day, in order of every column, each once."""
    numbers, kept = {}, []
    for row in sorted(set(as_rows(events)), key=lambda row: tuple(map(key, row))):
        day = row[0], row[1].date()
        numbers[day] = numbers.get(day, 0) + 1
        if numbers[day] <= most:
            kept.append(row)
    return kept


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), most=st.integers(1, 12), parts=st.integers(1, 3))
def test_a_day_is_capped_at_its_first_different_rows(seed, most, parts):
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed, users=3, rows=300)
    events = pa.concat_tables([events, events.slice(0, 40)])
    whole = EventBlock.of(events, config)
    expected = daily(events, most)
    assert as_rows(whole.distinct().capped(most).to_table(config)) == expected
    assert as_rows(whole.capped(most).distinct().to_table(config)) == expected
    pieces = [events.take(pa.array(np.arange(start, len(events), parts))) for start in range(parts)]
    stored = [EventBlock.of(piece, config).capped(most).distinct().to_table(config) for piece in pieces]
    again = EventBlock.of(pa.concat_tables([table.cast(events.schema) for table in stored]), config)
    assert as_rows(again.capped(most).distinct().to_table(config)) == expected


def test_no_cap_and_a_cap_that_nobody_reaches_keep_the_block():
    config = block_world.dense_config()
    block = EventBlock.of(block_world.dense_events(config, seed=2), config)
    assert block.capped(None) is block.capped(10_000) is block
    assert len(block.capped(2)) < len(block)


def test_what_is_0_is_not_told_from_what_is_minus_0():
    config = block_world.dense_config()
    row = block_world.dense_events(config, seed=1, rows=1)
    found = []
    for weights in ([0.0, -0.0], [-0.0, 0.0]):
        table = pa.concat_tables([row, row]).drop_columns("weight").append_column("weight", pa.array(weights))
        found.append(np.signbit(EventBlock.of(table, config).distinct().numbers["weight"]).tolist())
    assert found == [[False], [False]]


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
