"""What the first half of cleaning hands on, and what it keeps to itself."""

import json
from datetime import timedelta

import pyarrow as pa
import pytest
import segment_world as world

from segmenter_plugin.data import event_intake
from segmenter_plugin.data.arrow_blobs import unpack
from segmenter_plugin.data.event_cleaner import EventCleaner
from segmenter_plugin.data.event_intake import COUNTS, DROPPED, EVENTS, REFUSED, EventIntake

GOOD = {"note": "x", "customer": "anna", "at": world.MIDNIGHT, "kind": "seen", "sku": "a", "uid": "e1", "paid": 0.5}


def parcels_of(rows, config, buckets=2, number=5):
    intake = EventIntake(config, buckets, number)
    table = world.raw_table(rows)
    cleaner = EventCleaner.of(table.schema, config)
    return [*intake.add(table, cleaner, lambda places: table.take(pa.array(places))), *intake.end()]


def test_counts_and_refused_rows_go_to_the_task_own_bucket():
    parcels = parcels_of([GOOD, GOOD | {"customer": None}], world.segment_config(), buckets=4, number=7)
    assert {parcel.kind: parcel.bucket for parcel in parcels if parcel.kind != EVENTS} == {REFUSED: 3, COUNTS: 3}
    counts = json.loads(parcels[-1].blob)
    assert (counts["task"], counts["rows"], counts["quarantined"]) == (7, 2, {"user_id_missing": 1})
    assert counts["first"] == counts["last"] == int(world.MIDNIGHT.timestamp() * 1e6)
    assert counts["packed_bytes"] == sum(len(parcel.blob) for parcel in parcels[:-1])


def test_some_examples_of_each_reason():
    rows = [GOOD | {"customer": None, "note": str(number)} for number in range(9)] + [GOOD | {"kind": "danced"}]
    (counts,) = [json.loads(parcel.blob) for parcel in parcels_of(rows, world.segment_config())[-1:]]
    notes = [json.loads(text)["note"] for text in counts["examples"]["user_id_missing"]]
    assert notes == ["0", "1", "2"]
    assert len(counts["examples"]["event_type_unknown"]) == 1


def test_a_bot_does_not_come_out():
    rows = [GOOD | {"at": world.MIDNIGHT + timedelta(seconds=number)} for number in range(3000)]
    parcels = parcels_of(rows, world.segment_config(10))
    assert sum(len(unpack([parcel.blob])) for parcel in parcels if parcel.kind == EVENTS) == 10
    (dropped,) = [unpack([parcel.blob]).to_pylist() for parcel in parcels if parcel.kind == DROPPED]
    assert dropped == [{"user_id": "anna", "day": 19783, "events": 2990, "is_capped": True}]


@pytest.mark.parametrize(("name", "is_coded"), [("user_id", True), ("item_id", False), ("event_id", False)])
def test_only_text_that_repeats_becomes_a_dictionary(name, is_coded):
    rows = [GOOD | {"sku": f"item {number}", "uid": f"id {number}"} for number in range(100)]
    parcels = parcels_of(rows, world.segment_config(None), buckets=1)
    (table,) = [unpack([parcel.blob]) for parcel in parcels if parcel.kind == EVENTS]
    assert pa.types.is_dictionary(table.schema.field(name).type) == is_coded


def test_refused_rows_are_not_hoarded(monkeypatch):
    monkeypatch.setattr(event_intake, "_REFUSED_ROWS", 3)
    config = world.segment_config()
    intake = EventIntake(config, 1, 0)
    table = world.raw_table([GOOD | {"customer": None}] * 2)
    cleaner = EventCleaner.of(table.schema, config)
    kinds = [
        [parcel.kind for parcel in intake.add(table, cleaner, lambda places: table.take(pa.array(places)))]
        for _ in range(3)
    ]
    assert kinds == [[], [REFUSED], []]
    assert [parcel.kind for parcel in intake.end()] == [REFUSED, COUNTS]
