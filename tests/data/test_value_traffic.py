"""Traffic of values, and what users' rows say of it, against plain Python and under what must change nothing."""

from __future__ import annotations

import math
from datetime import timedelta

import block_world
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock, microseconds
from segmenter_plugin.data.value_traffic import count_names, counts_of, most_rows_of_a_day, traffic_of
from segmenter_plugin.schemas import trend_name

CUTOFF, DAY = block_world.CUTOFF, timedelta(days=1)
COLUMNS = ("item_id", "category", "channel")
CONFIG = block_world.dense_config(
    windows={"observation_days": 60, "activity_days": [1, 7], "trend_columns": list(COLUMNS)}, tasks=[]
)
NAMES = [trend_name(column, statistic) for column in COLUMNS for statistic in ("trend", "popularity")]
KEYS = ["column", "value"]


def events_of(seed, users=20, rows=400):
    """Dense events, their times spread over 80 days, many of them on the edges of the windows."""
    events = block_world.dense_events(CONFIG, seed, users, rows)
    random = np.random.default_rng(seed)
    edges = microseconds(CUTOFF) - 86_400_000_000 * random.choice([0, 7, 28, 35, 36], rows)
    edges += random.choice([-1, 0, 1], rows)
    spread = microseconds(CUTOFF) + random.integers(-70 * 86_400, 10 * 86_400, rows) * 1_000_000
    times = pa.array(np.where(random.random(rows) < 0.4, edges, spread)).view(events.schema.field(1).type)
    return events.set_column(1, events.schema.field(1), times)


def counted(tables, cutoffs):
    """Counts of several parts, added up as Spark does it."""
    times = [microseconds(cutoff) for cutoff in cutoffs]
    counts = pa.concat_tables([counts_of(table, COLUMNS, times) for table in tables])
    names = count_names(len(cutoffs))
    added = counts.group_by(KEYS).aggregate([(name, "sum") for name in names])
    return traffic_of(added.rename_columns([*KEYS, *names]), COLUMNS, times)


def rows_of(events, cutoff=CUTOFF, traffic=None):
    block = EventBlock.of(events, CONFIG).without_duplicates()
    traffic = counted([events], [cutoff]) if traffic is None else traffic
    (made,) = tables_as_of(block, [cutoff], cutoff, CONFIG, traffic)
    return made.behaviour.select(["user_id", *NAMES])


def plain_rows(events, cutoff):
    """The same by the definition."""
    past = [row for row in events.to_pylist() if row["event_timestamp"] < cutoff]
    block = EventBlock.of(events, CONFIG).without_duplicates().to_table(CONFIG)
    found = {}
    for column in COLUMNS:
        days = {}
        for row in past:
            if row[column] is not None:
                age = (cutoff - row["event_timestamp"] - timedelta(microseconds=1)) // DAY
                days.setdefault(row[column], set()).add((row["user_id"], age))
        for row in block.to_pylist():
            if row["event_timestamp"] >= cutoff or row["event_timestamp"] < cutoff - 60 * DAY:
                continue
            user = found.setdefault(row["user_id"], {name: [] for name in NAMES})
            if row["event_timestamp"] >= cutoff - 28 * DAY and row[column] is not None:
                ages = [age for _, age in days[row[column]]]
                recent, earlier = sum(age < 7 for age in ages) / 7, sum(7 <= age < 35 for age in ages) / 28
                user[trend_name(column, "trend")].append(math.log((recent + 1 / 7) / (earlier + 1 / 7)))
                user[trend_name(column, "popularity")].append(math.log(1 + sum(age < 28 for age in ages)))
    return {
        user: {name: sum(values) / len(values) if values else None for name, values in means.items()}
        for user, means in found.items()
    }


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), users=st.sampled_from([1, 3, 20]), rows=st.sampled_from([1, 30, 300]))
def test_means_are_those_of_the_definition(seed, users, rows):
    events = events_of(seed, users, rows)
    for cutoff in (CUTOFF, CUTOFF - 9 * DAY - timedelta(hours=5)):
        found = {row.pop("user_id"): row for row in rows_of(events, cutoff).to_pylist()}
        expected = plain_rows(events, cutoff)
        assert found.keys() == expected.keys()
        for user, row in expected.items():
            for name, value in row.items():
                mean = value if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)
                assert found[user][name] == mean, name


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([1, 30, 300]))
def test_nothing_from_the_cutoff_on_reaches_them(seed, rows):
    """Neither of the user's own events nor of others'."""
    events = events_of(seed, rows=rows)
    alone = rows_of(block_world.before(events, CUTOFF))
    times = pa.array([CUTOFF] * rows, events.schema.field(1).type)
    later = events.set_column(1, events.schema.field(1), times)
    for future in (events, pa.concat_tables([events, later])):
        assert rows_of(future).equals(alone)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 4), cutoffs=st.integers(1, 3))
def test_they_depend_on_the_set_of_events_alone(seed, parts, cutoffs):
    """However users are split, rows are ordered or repeated, and whatever other cutoffs there are: the same bits."""
    events = events_of(seed)
    whole = rows_of(events)
    owner = np.unique(np.array(events["user_id"].to_pylist()), return_inverse=True)[1]
    split = [block_world.shuffled(events.filter(pa.array(owner % parts == part)), seed) for part in range(parts)]
    repeated = [pa.concat_tables([part, part.slice(0, 10)]) for part in split]
    traffic = counted(repeated, [CUTOFF - 20 * DAY * number for number in range(cutoffs)])
    assert rows_of(events, traffic=traffic).equals(whole)
    one = events.filter(pa.array(owner == 0))
    assert rows_of(one, traffic=traffic).equals(whole.filter(pa.compute.field("user_id") == one["user_id"][0]))


def test_a_value_that_becomes_popular_has_a_trend():
    """Four users met `new` last week, four `old` in each of the four weeks before; none is known of `b`."""
    events = events_of(1, rows=1).to_pylist()[0] | {"event_id": None, "category": None, "channel": None}
    rows = [
        events | {"user_id": f"u{user}", "item_id": item, "event_timestamp": CUTOFF - days * DAY}
        for user in range(4)
        for item, ages in (("new", [3]), ("old", [8, 15, 22, 30]), ("b", [60]))
        for days in ages
    ]
    rows.append(events | {"user_id": "alone", "item_id": None, "event_timestamp": CUTOFF - DAY})
    table = pa.Table.from_pylist(rows, schema=block_world.clean_schema(CONFIG))
    (traffic, *_) = counted([table], [CUTOFF]).values()
    values = pa.array(["new", "old", "b", None])
    found = traffic.statistics(microseconds(CUTOFF), values)
    assert found["trend"] == pytest.approx([math.log(5), math.log(1 / 5), 0, 0])
    assert found["popularity"] == pytest.approx([math.log(5), math.log(13), 0, 0])
    assert set(traffic.values.to_pylist()) == {"new", "old"}
    means = {row["user_id"]: row for row in rows_of(table).to_pylist()}
    assert means["u0"]["item_trend_mean"] == pytest.approx((math.log(5) + 3 * math.log(1 / 5)) / 4)
    assert means["alone"]["item_trend_mean"] is None
    assert means["u0"]["category_popularity_mean"] is None


def test_the_busiest_day():
    events = events_of(2, users=3, rows=500)
    days = {}
    for row in events.to_pylist():
        key = (row["user_id"], row["event_timestamp"].date())
        days[key] = days.get(key, 0) + 1
    assert most_rows_of_a_day(events) == max(days.values())
    assert most_rows_of_a_day(events.slice(0, 0)) == 0
