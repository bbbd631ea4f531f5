"""Who changed, against a plain comparison of rows whose ages are counted back to the events' own times."""

from __future__ import annotations

from datetime import timedelta

import block_world
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.behaviour_changes import changed_rows, is_age, users_among, users_of
from segmenter_plugin.data.block_files import write_block_table
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.schemas import activity_fields

DAY = timedelta(days=1)
CUTOFF = block_world.CUTOFF
CONFIG = block_world.dense_config(tasks=[])


def behaviour(events, cutoff):
    (made,) = tables_as_of(EventBlock.of(events, CONFIG).without_duplicates(), [cutoff], cutoff, CONFIG)
    return made.behaviour


def expected(before, after, passed):
    """Users whose rows differ, each age told as the microsecond that it reaches back to."""

    def rows(table, shift):
        found = {}
        for row in table.drop_columns(["event_timestamp"]).to_pylist():
            for name in row:
                if is_age(name) and row[name] is not None:
                    row[name] = round(row[name] * 86_400_000_000) + shift // timedelta(microseconds=1)
            found[row.pop("user_id")] = row
        return found

    old, new = rows(before, passed), rows(after, timedelta())
    return [user not in old or old[user] != row for user, row in new.items()]


def changed(tmp_path, before, after, passed):
    write_block_table(before, tmp_path / "before.parquet", 16)
    write_block_table(after, tmp_path / "after.parquet", 7)
    return changed_rows(tmp_path / "before.parquet", tmp_path / "after.parquet", passed).tolist()


@settings(max_examples=12)
@given(seed=st.integers(0, 2**16), days=st.integers(0, 9), hours=st.sampled_from([0, 0, 0, 5]), whole=st.booleans())
def test_who_changed_is_who_differs_in_more_than_age(tmp_path_factory, seed, days, hours, whole):
    events = block_world.dense_events(CONFIG, seed, users=60, rows=500, whole=whole)
    passed = timedelta(days=days, hours=hours)
    before, after = behaviour(events, CUTOFF), behaviour(events, CUTOFF + passed)
    got = changed(tmp_path_factory.mktemp("changed"), before, after, passed)
    assert got == expected(before, after, passed)
    assert any(got) == (passed > timedelta())


def test_a_late_a_corrected_and_a_gone_event_change_their_users_only(tmp_path):
    rows = block_world.dense_events(CONFIG, 3, users=40, rows=1500)
    rows = rows.filter(pc.less(rows["event_timestamp"], pa.scalar(CUTOFF)))
    rows = rows.set_column(rows.schema.get_field_index("event_id"), "event_id", pa.nulls(len(rows), pa.string()))
    before = behaviour(rows, CUTOFF)
    seen = rows.filter(pc.greater(rows["event_timestamp"], pa.scalar(CUTOFF - 15 * DAY)))
    place = seen.slice(0, 1)
    user = place["user_id"][0].as_py()
    late = place.set_column(1, rows.schema.field(1), pa.array([CUTOFF - 3 * DAY], rows.schema.field(1).type))
    index = rows.schema.get_field_index("amount")
    is_it = pc.and_(pc.equal(rows["user_id"], user), pc.greater(rows["event_timestamp"], pa.scalar(CUTOFF - 15 * DAY)))
    corrected = rows.set_column(index, rows.schema.field(index), pc.if_else(is_it, 7.25, rows["amount"]))
    # In no aggregate, and no list grows by it.
    index = rows.schema.get_field_index("channel")
    recoded = rows.set_column(index, rows.schema.field(index), pc.if_else(is_it, "another", rows["channel"]))
    for name, events in {
        "late": pa.concat_tables([rows, late]),
        "corrected": corrected,
        "recoded": recoded,
        "gone": rows.filter(pc.invert(is_it)),
    }.items():
        after = behaviour(events, CUTOFF)
        flags = changed(tmp_path, before, after, timedelta())
        assert set(after["user_id"].filter(pa.array(flags)).to_pylist()) <= {user}, name
        assert any(flags) or user not in after["user_id"].to_pylist(), name
    assert not any(changed(tmp_path, before, before, timedelta()))


def test_ages_are_all_that_grow_with_time_alone():
    """Of one user with one event long enough ago for the shorter windows."""
    config = block_world.dense_config(tasks=[])
    one = block_world.dense_events(config, 1, users=1, rows=1)
    one = one.set_column(1, one.schema.field(1), pa.array([CUTOFF - 9 * DAY], one.schema.field(1).type))
    old, new = (behaviour(one, time).to_pylist()[0] for time in (CUTOFF, CUTOFF + DAY))
    grown = {field.name for field in activity_fields(config) if old[field.name] != new[field.name]}
    assert grown
    assert all(is_age(name) for name in grown)
    assert {field.name for field in activity_fields(config) if is_age(field.name)} >= grown


def test_what_others_move_changes_nobody(tmp_path):
    """Only whether there is a value counts: it is the user's own events that make it come and go."""
    table = pa.table({"user_id": ["a", "b", "c"], "event_timestamp": [1, 1, 1], "n": [1, 1, 1]})
    for name, values in {"before": [0.5, None, None], "after": [0.25, None, 0.0]}.items():
        pq.write_table(table.append_column("item_trend_mean", pa.array(values, pa.float64())), tmp_path / name)
    files = tmp_path / "before", tmp_path / "after"
    assert changed_rows(*files, DAY, ["item_trend_mean"]).tolist() == [False, False, True]
    assert changed_rows(*files, DAY).tolist() == [True, False, True]


@pytest.mark.parametrize("change", ["no file", "another column", "another split"])
def test_what_cannot_be_compared_counts_as_changed(tmp_path, change):
    table = behaviour(block_world.dense_events(CONFIG, 5, users=20, rows=200), CUTOFF)
    write_block_table(table, tmp_path / "after.parquet", 16)
    half = table.slice(0, 7)
    if change == "another column":
        half = half.drop_columns(["tenure_days"])
    write_block_table(half, tmp_path / "before.parquet", 16)
    before = None if change == "no file" else tmp_path / "before.parquet"
    flags = changed_rows(before, tmp_path / "after.parquet", timedelta())
    assert flags.tolist() == [change != "another split"] * 7 + [True] * (len(table) - 7)


def test_users_are_looked_up_in_all_files(tmp_path):
    for name, ids in {"a": ["x", "y"], "b": ["z"]}.items():
        pq.write_table(pa.table({"user_id": ids}), tmp_path / f"{name}.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert users_among(pa.array(["z", "w", "x"]), files).tolist() == [True, False, True]
    assert users_among(pa.array(["z"]), []).tolist() == [False]
    assert users_of(files[0]).to_pylist() == ["x", "y"]
    assert np.array_equal(users_among(pa.array([], pa.string()), files), np.empty(0, bool))
