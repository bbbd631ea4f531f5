from datetime import timedelta

import block_world
import spark_world
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock

CUTOFF, DAY = block_world.CUTOFF, timedelta(days=1)


@settings(max_examples=80)
@given(rows=spark_world.worlds(users=5), days=st.sampled_from([0, 3, 5, 6, 90]))
def test_labels_equal_plain_python(rows, days):
    config, complete = spark_world.world_config(), CUTOFF + days * DAY
    expected = {
        user: spark_world.label_row(events, CUTOFF, complete, config)
        for user, events in spark_world.clean(rows, config).items()
        if spark_world.observed(events, CUTOFF)
    }
    assert block_world.by_user(block_world.at(rows, config, CUTOFF, complete).labels) == expected


def labels_of(*events, complete=CUTOFF + 6 * DAY):
    """Labels of a user who was seen before the cutoff and does these things, days after it."""
    row = dict.fromkeys(spark_world.RAW.names) | {"customer": "u", "kind": "bought"}
    rows = [row | {"at": CUTOFF - DAY}, *(row | {"at": CUTOFF + days * DAY} | further for days, further in events)]
    return block_world.by_user(block_world.at(rows, spark_world.world_config(), CUTOFF, complete).labels)["u"]


def test_a_window_holds_its_start_and_not_its_end():
    """`late` looks at days 2 to 6 after the cutoff, `purchase` at 0 to 3."""
    found = [labels_of((days, {})) for days in (0, 1.999, 2, 3, 5.999, 6)]
    assert [labels["late_4d_gap2d_label"] for labels in found] == [False, False, True, True, True, False]
    assert [labels["purchase_3d_label"] for labels in found] == [True, True, True, False, False, False]


def test_what_was_sent_back_is_subtracted_down_to_nothing():
    bought, returned = {"paid": 0.3}, {"paid": 0.1, "kind": "sent_back"}
    assert labels_of((1, bought), (2, returned))["spend_5d_label"] == 0.2
    assert labels_of((1, {"paid": 0.1}), (2, returned | {"paid": 5.0}))["spend_5d_label"] == 0.0


def test_a_window_that_is_not_over_is_unknown():
    labels = labels_of((1, {}), complete=CUTOFF + 3 * DAY - timedelta(microseconds=1))
    assert set(labels.values()) == {None}
    assert labels_of((1, {}), complete=CUTOFF + 3 * DAY)["depth_3d_label"] == "purchase"


def test_values_of_a_label_are_different_and_sorted_by_their_bytes():
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed=4, users=2, rows=3000)
    (tables,) = tables_as_of(EventBlock.of(events, config), [CUTOFF], CUTOFF + 9 * DAY, config)
    assert tables.labels["item_5d_label"].to_pylist() == [["", "Z", "a", "zz", "ä", "\uffee", "😀"]] * 2


def interest(*events):
    return labels_of(*events)["interest_5d_label"]


def test_each_category_has_its_highest_rung_whatever_came_first():
    bought, seen = {"kind": "bought"}, {"kind": "seen"}
    toys, food = {"department": "toys"}, {"department": "food"}
    found = interest((1, bought | toys), (2, seen | toys), (3, seen | food), (3, seen), (5, bought | food))
    assert found == [{"value": "food", "rung": "view"}, {"value": "toys", "rung": "purchase"}]
    assert interest((1, {"kind": "sent_back"} | toys), (2, bought)) == []


@settings(max_examples=25)
@given(rows=spark_world.worlds(users=5))
def test_what_happens_after_the_window_changes_no_rung(rows):
    def labels(some):
        tables = block_world.at(some, spark_world.world_config(), CUTOFF, CUTOFF + 90 * DAY)
        return {user: row["interest_5d_label"] for user, row in block_world.by_user(tables.labels).items()}

    assert labels([row for row in rows if row["at"] < CUTOFF + 5 * DAY]) == labels(rows)
    before = labels([row for row in rows if row["at"] < CUTOFF])
    assert all(label == [] for label in before.values())
