"""Thirty days of a simulated shop, built by increments: each day equal to a build of everything, row for row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.event_log import EventLog
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.data.shop import EVENTS_SCHEMA, events_section, simulate
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HISTORY, DAYS, USERS = 90, 30, 3_000
CORRECTED_SHARE = 0.01


@pytest.fixture(scope="module")
def events():
    """All of the shop's rows; `ingested_at` is seconds after `at`, or days."""
    plain = pa.schema([(field.name, _plain(field.type)) for field in EVENTS_SCHEMA])
    shop = simulate(USERS, HISTORY + DAYS, seed=11, start=START)
    return pa.concat_tables(pa.Table.from_batches([batch]).cast(plain) for batch in shop.events)


def _plain(kind):
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def config_of(folder, root):
    tree = {
        "events": events_section(str(folder / "events")) | {"max_events_per_day": 40},
        "windows": {
            "observation_days": 60,
            "activity_days": [1, 7, 28],
            "trend_columns": ["item_id", "category"],
        },
        "sequences": {"length": 32},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 3},
            {"name": "spend", "kind": "value", "prediction_days": 3},
            {"name": "taste", "kind": "multilabel", "prediction_days": 3, "target": "category"},
        ],
        "store": {"root": str(folder / root)},
    }
    return parse_config(tree)


def corrected(known, random, now):
    """Rows that were known, again: with another price, and some with another time."""
    count = int(len(known) * CORRECTED_SHARE)
    rows = known.take(pa.array(random.integers(0, len(known), count)))
    shift = pa.array(random.choice([-86_400_000_000, 0, 3_600_000_000], count), pa.duration("us"))
    prices = pc.add(rows["unit_price"], 0.01)
    for name, values in (("at", pc.add(rows["at"], shift)), ("unit_price", prices)):
        rows = rows.set_column(rows.column_names.index(name), name, values)
    came = pa.array([now] * count, EVENTS_SCHEMA.field("ingested_at").type)
    return rows.set_column(rows.column_names.index("ingested_at"), "ingested_at", came)


def between(events, start, end):
    times = events["ingested_at"]
    return events.filter(pc.and_(pc.greater_equal(times, pa.scalar(start)), pc.less(times, pa.scalar(end))))


def read(folder):
    return pa.concat_tables(pq.read_table(path) for path in data_files(folder)).sort_by("user_id")


def test_thirty_days_equal_the_rebuild(spark, events, tmp_path):
    random = np.random.default_rng(5)
    (tmp_path / "events").mkdir()
    config, layout = config_of(tmp_path, "run"), Layout(tmp_path / "run")
    first = START + HISTORY * DAY
    known = between(events, START, first)
    pq.write_table(known, tmp_path / "events" / "history.parquet")
    build(config, [first], spark=spark)
    found = dict.fromkeys(("late", "duplicates", "corrected", "capped"), 0)
    merges = 0
    for day in range(1, DAYS + 1):
        cutoff = first + day * DAY
        arrived = between(events, cutoff - DAY, cutoff)
        rows = pa.concat_tables([arrived, corrected(known, random, cutoff - DAY)])
        pq.write_table(rows, tmp_path / "events" / f"day-{day:02d}.parquet")
        known = pa.concat_tables([known, rows])
        result = build(config, [cutoff], previous=cutoff - DAY, spark=spark)
        found = {name: count + result["derived"][name] for name, count in found.items()}
        merges += result["derived"]["is_merged"]
        # Labels of the cutoff itself are censored; those of three days ago are known by now.
        cutoffs = [cutoff] if day < 4 else [cutoff - 3 * DAY, cutoff]
        if day >= 4:
            build(config, cutoffs, previous=cutoff - 4 * DAY, spark=spark)
        rebuilt = Layout(tmp_path / f"rebuilt-{day}")
        build(config_of(tmp_path, f"rebuilt-{day}"), cutoffs, spark=spark)
        for time in cutoffs:
            for name in ("behaviour", "labels"):
                expected = read(getattr(rebuilt, name)(time))
                assert expected.num_rows > 0
                assert read(getattr(layout, name)(time)).equals(expected), (day, name, time)
        assert EventLog.read(layout.root).fingerprint == EventLog.read(rebuilt.root).fingerprint
    assert all(found.values()), found
    assert merges > 1
