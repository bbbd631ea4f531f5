import block_world
import spark_world
from hypothesis import given, settings

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.schemas import sequence_fields

CUTOFF = block_world.CUTOFF


@settings(max_examples=60)
@given(rows=spark_world.worlds(users=5))
def test_sequences_equal_plain_python(rows):
    config = spark_world.world_config()
    names = [field.name for field in sequence_fields(config)]
    found = block_world.by_user(block_world.at(rows, config, CUTOFF, CUTOFF).behaviour)
    expected = {
        user: spark_world.sequence_row(events, CUTOFF, config)
        for user, events in spark_world.clean(rows, config).items()
        if spark_world.observed(events, CUTOFF)
    }
    assert {user: {name: row[name] for name in names} for user, row in found.items()} == expected


def test_a_long_history_is_cut_to_its_newest_events():
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed=1, users=1, rows=500)
    (tables,) = tables_as_of(EventBlock.of(events, config), [CUTOFF], CUTOFF, config)
    (row,) = tables.behaviour.to_pylist()
    times = sorted(block_world.before(events, CUTOFF)["event_timestamp"].to_pylist())
    assert row["event_timestamp_sequence"] == times[-6:]
    assert row["sequence_length"] == 6
    assert row["event_count_20d"] > 100


def test_text_in_lists_is_coded_and_the_same_however_the_events_were():
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed=1)
    coded = events.set_column(3, "item_id", events["item_id"].dictionary_encode())
    found, other = (
        next(tables_as_of(EventBlock.of(some, config), [CUTOFF], CUTOFF, config)).behaviour for some in (events, coded)
    )
    assert found.schema.field("item_id_sequence").type == block_world.CODED_LIST
    found.validate(full=True)
    assert block_world.plain(found).equals(block_world.plain(other))
