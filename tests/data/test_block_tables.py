from datetime import timedelta

import block_world
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.schemas import behaviour_schema, conform, labels_schema

CUTOFF, DAY = block_world.CUTOFF, timedelta(days=1)
CUTOFFS = [CUTOFF - 25 * DAY, CUTOFF - DAY, CUTOFF, CUTOFF + DAY + timedelta(hours=7, seconds=1)]
COMPLETE = CUTOFF + 6 * DAY
#: Of numbers that are not whole, or beyond 2^53: these depend on the order in which they are added.
INEXACT = ("weight_mean", "purchase_amount_std")
BARE = {"user_id": "u", "item_id": "i", "event_type": "t", "event_timestamp": "at"}


def spark_tables(spark, events, config, cutoffs):
    """Behaviour and labels at all cutoffs, by Spark SQL."""
    from native_spark.behaviour import as_of, build_behaviour
    from native_spark.labels import build_labels
    from native_spark.timeline import arrange

    timeline = arrange(spark.createDataFrame(events), config, 2).persist()
    found = []
    for build, schema in (
        (lambda cutoff: build_behaviour(timeline, cutoff, config), behaviour_schema),
        (lambda cutoff: build_labels(timeline, cutoff, COMPLETE, config), labels_schema),
    ):
        frames = [as_of(build(cutoff), cutoff) for cutoff in cutoffs]
        together = frames[0]
        for frame in frames[1:]:
            together = together.unionByName(frame)
        user_type = events.schema.field("user_id").type
        found.append(in_order(conform(together.toArrow(), schema(config, user_type), "Spark's table")))
    timeline.unpersist()
    return found


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([("event_timestamp", "ascending"), ("user_id", "ascending")])


def all_tables(events, config, cutoffs=CUTOFFS):
    tables = list(tables_as_of(EventBlock.of(events, config), cutoffs, COMPLETE, config))
    return [
        pa.concat_tables(block_world.plain(getattr(found, name)) for found in tables)
        for name in ("behaviour", "labels")
    ]


def few_columns():
    types = {"view": ["view"], "purchase": ["purchase"]}
    events = {"path": "unused", "columns": BARE, "types": types, "unknown_type": "keep"}
    return block_world.dense_config(events=events, tasks=[{"name": "buy", "kind": "binary", "prediction_days": 4}])


def check_against_spark(spark, config, events, cutoffs):
    expected, found = spark_tables(spark, events, config, cutoffs), all_tables(events, config, cutoffs)
    for theirs, ours in zip(expected, found, strict=True):
        assert ours.schema == theirs.schema
        assert len(ours) > 250
        for name in ours.column_names:
            if name in INEXACT:
                assert ours[name].is_null().equals(theirs[name].is_null()), name
                expected = pytest.approx(theirs[name].drop_null().to_pylist(), rel=1e-12)
                assert ours[name].drop_null().to_pylist() == expected, name
            else:
                assert ours[name].equals(theirs[name]), name


def test_tables_are_those_of_spark_to_the_bit(spark):
    config = block_world.dense_config()
    check_against_spark(spark, config, block_world.dense_events(config, seed=5), CUTOFFS[2:])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("whole", [False, True], ids=["all columns, text users", "few columns, whole users"])
def test_tables_are_those_of_spark_at_more_cutoffs(spark, whole, seed):
    config = few_columns() if whole else block_world.dense_config()
    events = block_world.dense_events(config, seed, users=2000, rows=40_000, whole=whole)
    check_against_spark(spark, config, events, CUTOFFS)


def test_columns_are_as_the_schemas_say_for_nobody_too():
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed=1, rows=50)
    for some in (events, events.slice(0, 0)):
        (tables,) = tables_as_of(EventBlock.of(some, config), [CUTOFF - 400 * DAY], COMPLETE, config)
        assert block_world.plain(tables.behaviour).schema == behaviour_schema(config, pa.string())
        assert tables.labels.schema == labels_schema(config, pa.string())
        assert len(tables.behaviour) == len(tables.labels) == 0


def test_purchases_that_are_no_named_type_still_have_amounts():
    """`types` names no purchase, yet the owner's unknown types are kept, and one of them is called so."""
    columns = BARE | {"price": "p"}
    events = {"path": "unused", "columns": columns, "types": {"view": ["view"]}, "unknown_type": "keep"}
    config = parse_config({"events": events})
    table = block_world.dense_events(config, seed=2)
    (tables,) = tables_as_of(EventBlock.of(table, config), [CUTOFF], COMPLETE, config)
    assert tables.behaviour["purchase_amount_max"].null_count < len(tables.behaviour)
    assert tables.behaviour["order_amount_mean"].null_count == len(tables.behaviour)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), users=st.sampled_from([1, 3, 60]), rows=st.sampled_from([1, 20, 200]))
def test_nothing_from_the_cutoff_on_reaches_behaviour(seed, users, rows):
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed, users, rows)
    past = EventBlock.of(block_world.before(events, CUTOFF), config)
    (alone,) = tables_as_of(past, [CUTOFF], COMPLETE, config)
    for future in (events, pa.concat_tables([events, later_copy(past, events)])):
        (found,) = tables_as_of(EventBlock.of(future, config), [CUTOFF], COMPLETE, config)
        assert block_world.plain(found.behaviour).equals(block_world.plain(alone.behaviour))


def later_copy(past, events):
    """The same events of the same users, orders, sessions and items once more, at the cutoff itself."""
    times = pa.array([CUTOFF] * len(past), events.schema.field("event_timestamp").type)
    copied = block_world.before(events, CUTOFF)
    return copied.set_column(copied.column_names.index("event_timestamp"), "event_timestamp", times)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([2, 30, 400]))
def test_order_of_rows_and_other_users_change_nothing(seed, rows):
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed, users=20, rows=rows)
    whole = all_tables(events, config)
    for ours, other in zip(whole, all_tables(block_world.shuffled(events, seed), config), strict=True):
        assert ours.equals(other)
    one = events["user_id"][0].as_py()
    for ours, other in zip(whole, all_tables(events.filter(pa.compute.field("user_id") == one), config), strict=True):
        assert ours.filter(pa.compute.field("user_id") == one).equals(other)


def test_many_cutoffs_equal_each_alone():
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed=3)
    block = EventBlock.of(events, config)
    for found in tables_as_of(block, CUTOFFS, COMPLETE, config):
        (alone,) = tables_as_of(block, [found.cutoff], COMPLETE, config)
        assert block_world.plain(found.behaviour).equals(block_world.plain(alone.behaviour))
        assert found.labels.equals(alone.labels)
