"""Each check of the clocks: silent on honest rows, and loud on each way of breaking its rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.clock_checks import (
    Counts,
    CreatedAfterEvent,
    EventBeforeCutoff,
    EventInObservation,
    LabelWindow,
    Recency,
    RowTime,
    SeenAfterCutoff,
    TrainedThroughOfRows,
    behaviour_checks,
    check_batch,
    label_checks,
    published_checks,
)
from segmenter_plugin.data.clock_findings import Checked, Finding, Place, merged
from segmenter_plugin.data.clock_jobs import CheckSource, CheckUsers, StoredFile, row_jobs, user_jobs
from segmenter_plugin.data.clock_sameness import differing
from segmenter_plugin.errors import SchemaError
from segmenter_plugin.schemas import TIMESTAMP

CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
OBSERVATION, WINDOW, LENGTH = 20, 7, 4
PLACE = Place("behaviour/cutoff=20240301T000000Z", CUTOFF)
CHECKS = (
    RowTime(),
    EventBeforeCutoff(),
    EventInObservation(OBSERVATION),
    Recency(OBSERVATION),
    Counts(("event",), (WINDOW, OBSERVATION)),
)


def row(ages: list[timedelta], length: int = LENGTH, **changed: Any) -> dict[str, Any]:
    """A row of a user whose events have these ages, of which the last few are kept; then some columns changed."""
    ages = sorted(ages, reverse=True)
    return {
        "user_id": "anna",
        "event_timestamp": CUTOFF,
        "event_timestamp_sequence": [CUTOFF - age for age in ages[-length:]],
        "recency_days": ages[-1] / DAY,
        "tenure_days": ages[0] / DAY,
        f"event_count_{WINDOW}d": sum(age <= WINDOW * DAY for age in ages),
        f"event_count_{OBSERVATION}d": len(ages),
    } | changed


def batch_of(*rows: dict[str, Any], **types: pa.DataType) -> pa.RecordBatch:
    known = {"event_timestamp": TIMESTAMP, "event_timestamp_sequence": pa.list_(TIMESTAMP)}
    known |= dict.fromkeys(("created_timestamp", "trained_through"), TIMESTAMP) | types
    columns = {name: [one[name] for one in rows] for name in rows[0]}
    return pa.record_batch({name: pa.array(values, known.get(name)) for name, values in columns.items()})


def found(batch: pa.RecordBatch, *checks: Any, place: Place = PLACE) -> dict[str, Finding]:
    return {each.check: each.findings[0] for each in check_batch(batch, checks or CHECKS, place) if each.findings}


AGES = st.lists(st.integers(1, OBSERVATION * 24 * 3_600_000_000), min_size=1, max_size=9)


@given(st.lists(AGES, min_size=1, max_size=4))
def test_honest_rows_break_no_rule(users):
    batch = batch_of(*(row([micros * TICK for micros in ages]) for ages in users))
    assert not found(batch)
    assert [each.rows for each in check_batch(batch, CHECKS, PLACE)] == [len(users)] * len(CHECKS)


@given(AGES, st.integers(0, 10**13), st.data())
def test_an_event_at_or_after_the_cutoff_is_found_wherever_it_stands(ages, later, data):
    honest = row([micros * TICK for micros in ages])
    times = honest["event_timestamp_sequence"]
    times[data.draw(st.integers(0, len(times) - 1))] = CUTOFF + later * TICK
    findings = found(batch_of(row([DAY]), honest), EventBeforeCutoff())
    assert findings["event_before_cutoff"].rows == 1
    assert findings["event_before_cutoff"].values == {"last_event": (CUTOFF + later * TICK).isoformat()}


@given(AGES, st.integers(1, 10**12))
def test_an_event_before_the_observation_window_is_found(ages, earlier):
    old = CUTOFF - OBSERVATION * DAY - earlier * TICK
    honest = row([micros * TICK for micros in ages], length=20)
    honest["event_timestamp_sequence"].insert(0, old)
    assert found(batch_of(honest), EventInObservation(OBSERVATION))["event_in_observation"].rows == 1


SEVEN = [number * DAY for number in (1, 2, 3, 9, 12, 13, 15)]
PLANTED = {
    "an event without a time": (row(SEVEN, event_timestamp_sequence=[None, CUTOFF - DAY]), "event_before_cutoff"),
    "no event at all": (row(SEVEN, event_timestamp_sequence=[]), "event_before_cutoff"),
    "no sequence": (row(SEVEN, event_timestamp_sequence=None), "event_before_cutoff"),
    "another cutoff": (row(SEVEN, event_timestamp=CUTOFF + DAY), "row_time"),
    "no cutoff": (row(SEVEN, event_timestamp=None), "row_time"),
    "no user": (row(SEVEN, user_id=None), "row_time"),
    "recency of a later event": (row(SEVEN, recency_days=-0.5), "recency"),
    "recency of another event": (row(SEVEN, recency_days=1.5), "recency"),
    "recency of no event": (row(SEVEN, recency_days=None), "recency"),
    "tenure beyond the window": (row(SEVEN, tenure_days=OBSERVATION + 0.1), "recency"),
    "tenure below recency": (row(SEVEN, tenure_days=0.5), "recency"),
    "a later event counted": (row(SEVEN, event_count_7d=4), "counts"),
    "an event not counted": (row(SEVEN, event_count_7d=2), "counts"),
    "fewer than the sequence has": (row(SEVEN, event_count_20d=3), "counts"),
    "a short window above a long one": (row(SEVEN[:3], event_count_7d=3, event_count_20d=2), "counts"),
    "fewer than a full sequence has": (row([number * DAY / 2 for number in range(1, 7)], event_count_7d=3), "counts"),
    "no count": (row(SEVEN, event_count_7d=None), "counts"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_row_is_found_and_named(name):
    planted, check = PLANTED[name]
    finding = found(batch_of(row(SEVEN), planted, row(SEVEN)))[check]
    assert (finding.rows, finding.user, finding.level) == (1, planted["user_id"], "leak")
    assert (finding.table, finding.cutoff) == (PLACE.table, CUTOFF)
    assert finding.values
    assert finding.as_dict()["cutoff"] == CUTOFF.isoformat()


def test_a_kind_has_no_more_events_than_there_are():
    checks = Counts(("event", "view"), (WINDOW, OBSERVATION))
    honest = row(SEVEN, view_count_7d=3, view_count_20d=5)
    assert not found(batch_of(honest), checks)
    assert found(batch_of(honest | {"view_count_7d": 4}), checks)
    assert found(batch_of(honest | {"view_count_20d": 2}), checks)


def test_a_slice_of_a_batch_is_checked_as_itself():
    batch = batch_of(row(SEVEN, event_timestamp_sequence=[CUTOFF]), row(SEVEN), row([DAY]))
    assert found(batch.slice(0, 1))
    assert not found(batch.slice(1))


def test_the_configured_checks_read_the_columns_that_behaviour_has(config):
    names = {name for check in behaviour_checks(config) for name in check.columns}
    assert {"event_count_7d", "purchase_count_365d", "session_count_28d", "event_timestamp_sequence"} <= names


def test_a_label_is_null_while_its_window_is_not_over(config):
    place, labels = Place("labels", CUTOFF), {"user_id": 1, "event_timestamp": CUTOFF}
    labels |= {"purchase_14d_label": True, "spend_14d_label": 0.0}
    for through, loud in ((CUTOFF + 14 * DAY, False), (CUTOFF + 14 * DAY - TICK, True)):
        checks = label_checks(config, CUTOFF, through)
        assert ("label_window" in found(batch_of(labels), *checks, place=place)) == loud
    assert label_checks(config, CUTOFF, None) == (RowTime(),)
    censored = labels | {"purchase_14d_label": None}
    assert not found(batch_of(censored, purchase_14d_label=pa.bool_()), LabelWindow(("purchase_14d_label",)))


PUBLISHED = {"user_id": 7, "event_timestamp": CUTOFF, "created_timestamp": CUTOFF, "model_version": "m1"}
PUBLISHED |= {"trained_through": CUTOFF}


@pytest.mark.parametrize(("created", "required", "loud"), [
    (CUTOFF, True, False), (CUTOFF + DAY, True, False), (CUTOFF - TICK, True, True), (CUTOFF - TICK, False, True),
    (None, True, True), (None, False, False),
])  # fmt: skip
def test_a_row_is_published_at_or_after_its_time(created, required, loud):
    batch = batch_of(PUBLISHED | {"created_timestamp": created})
    assert bool(found(batch, CreatedAfterEvent(required=required))) == loud


def test_weights_that_have_seen_later_events_are_noted_and_are_no_leak():
    assert not found(batch_of(PUBLISHED), SeenAfterCutoff())
    finding = found(batch_of(PUBLISHED, PUBLISHED | {"trained_through": CUTOFF + TICK}), SeenAfterCutoff())
    assert (finding["seen_after_cutoff"].level, finding["seen_after_cutoff"].rows) == ("note", 1)


@pytest.mark.parametrize(("known", "told", "loud"), [
    (CUTOFF, CUTOFF, False), (CUTOFF, CUTOFF - TICK, True), (CUTOFF, CUTOFF + TICK, True), (CUTOFF, None, True),
    (CUTOFF - TICK, CUTOFF, False), (CUTOFF - TICK, CUTOFF - TICK, False),
])  # fmt: skip
def test_a_row_tells_what_its_weights_tell_or_that_in_whole_seconds(known, told, loud):
    batch = batch_of(PUBLISHED | {"trained_through": told}, PUBLISHED | {"model_version": "gone", "user_id": 8})
    findings = found(batch, TrainedThroughOfRows({"other": CUTOFF + DAY, "m1": known}))
    assert bool(findings) == loud
    assert all(finding.user == 7 for finding in findings.values())
    assert not found(batch.slice(1), TrainedThroughOfRows({}))


def test_what_published_rows_are_checked_for_depends_on_their_columns():
    names = [check.name for check in published_checks(["trained_through"], {}, pushed=True)]
    assert names == ["row_time", "created_after_event", "trained_through_of_rows", "seen_after_cutoff"]
    assert len(published_checks(["event_count_7d"], {}, pushed=False)) == 2


def test_parts_are_added_up_and_the_first_example_stays():
    parts = [
        Checked("a", "t", 5, (Finding("a", "t", None, 2, "bad", user=user),)) for user in ("first", "second")
    ]  # fmt: skip
    both = merged([*parts, Checked("a", "other", 1), Checked("b", "t", 1)])
    assert [(one.check, one.table, one.rows) for one in both] == [("a", "t", 10), ("a", "other", 1), ("b", "t", 1)]
    assert [(finding.rows, finding.user) for finding in both[0].findings] == [(4, "first")]


def write(path, table, rows=10):
    import pyarrow.parquet as pq

    pq.write_table(table, path, row_group_size=rows)
    return StoredFile(str(path))


@pytest.fixture
def files(tmp_path):
    """Two files of 40 users, and a function that writes others."""
    table = pa.table({"user_id": [f"u{number}" for number in range(40)], "value": np.arange(40.0)})
    return (write(tmp_path / "a.parquet", table[:25]), write(tmp_path / "b.parquet", table[25:])), table, tmp_path


def test_a_user_with_two_rows_is_found_across_files_and_slices(files):
    stored, table, folder = files
    place = Place("scores", CUTOFF)
    assert [job().pop().findings for job in user_jobs(place, stored, 40)] == [()]
    twice = (*stored, write(folder / "c.parquet", table.slice(33, 1)))
    results = [CheckUsers(place, twice, number, 3)()[0] for number in range(3)]
    assert sum(one.rows for one in results) == 41
    (finding,) = [finding for one in results for finding in one.findings]
    assert (finding.rows, finding.user) == (2, "u33")


def test_jobs_of_rows_share_the_row_groups_among_them(files, monkeypatch):
    monkeypatch.setattr("segmenter_plugin.data.clock_jobs.JOB_ROWS", 15)
    stored, _, _ = files
    jobs = list(row_jobs(Place("t", None), stored, ()))
    assert [job.groups for job in jobs] == [(0, 1), (2,), (0, 1)]
    with pytest.raises(SchemaError, match="lacks the columns"):
        list(stored[0].batches(["gone"]))


def test_published_rows_are_those_that_they_were_made_from(files):
    stored, table, folder = files
    published = table.rename_columns(["client", "value"])
    place = Place("features", CUTOFF, "client")

    def check(rows):
        job = CheckSource(place, (write(folder / "p.parquet", rows, 7),), stored, ("value",))
        return job()[0]

    assert (check(published).rows, check(published).findings) == (40, ())
    changed = published.set_column(1, "value", pa.array([*range(30), -1.0, *range(31, 40)], pa.float64()))
    (finding,) = check(changed).findings
    assert (finding.rows, finding.user, finding.values) == (1, "u30", {"value": "-1.0", "made_from": "30.0"})
    assert [finding.rows for finding in check(published[:37]).findings] == [3]
    assert check(published.take([*range(1, 40), 0])).findings


@pytest.mark.parametrize(("left", "right", "differ"), [
    ([1, None, 3], [1, None, 4], [2]),
    ([1, None], [None, 1], [0, 1]),
    ([1.0, np.nan, 0.0], [1.0 + 1e-12, np.nan, 1e-12], [2]),
    ([True, False], [True, True], [1]),
    ([["a"], [], None, ["b", None]], [["a"], None, None, ["b", "c"]], [1, 3]),
    ([["a", "b"], ["c"]], [["a"], ["c"]], [0]),
    ([[{"v": "a"}], [{"v": "b"}]], [[{"v": "a"}], [{"v": "c"}]], [1]),
])  # fmt: skip
def test_columns_differ_where_their_values_do(left, right, differ):
    kind = pa.infer_type([*left, *right])
    assert np.flatnonzero(differing(pa.array(left, kind), pa.array(right, kind))).tolist() == differ
