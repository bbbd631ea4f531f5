"""Dealing out and reading plain Parquet files; needs no session."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import segment_world as world

from segmenter_plugin.data.raw_rows import rows_as_json
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark import scan as module
from segmenter_plugin.spark.scan import plan_scan, read_split

GOOD = {"note": "x", "customer": "anna", "at": world.MIDNIGHT, "kind": "seen", "sku": "a", "uid": "e1", "paid": 0.5}


def numbered(start, count):
    return world.raw_table(
        [GOOD | {"uid": str(number), "note": f"n{number}"} for number in range(start, start + count)]
    )


def write(path, table, **options):
    pq.write_table(table, path, **options)
    return path


def ids(scan, config):
    return [
        [uid for raw in read_split(split, scan.types, config) for uid in raw.rows["uid"].to_pylist()]
        for split in scan.splits
    ]


def test_every_row_group_is_dealt_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_SPLIT_BYTES", 1)
    config = world.segment_config()
    files = [write(tmp_path / f"{n}.parquet", numbered(100 * n, 100), row_group_size=30) for n in range(3)]
    scan = plan_scan(files, config, cores=2)
    assert 6 <= len(scan.splits) <= 12
    assert [uid for split in ids(scan, config) for uid in split] == [str(number) for number in range(300)]
    monkeypatch.setattr(module, "_LEAST_SPLIT_BYTES", 1 << 30)
    monkeypatch.setattr(module, "_MOST_SPLIT_BYTES", 1 << 30)
    (pieces,) = plan_scan(files, config, cores=2).splits
    assert [piece.row_groups for piece in pieces] == [(0, 1, 2, 3)] * 3


def test_batches_are_small_and_further_columns_come_along_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BATCH_ROWS", 7)
    monkeypatch.setattr(module, "_LEAST_BATCH_ROWS", 7)
    config = world.segment_config()
    scan = plan_scan([write(tmp_path / "a.parquet", numbered(0, 50), row_group_size=20)], config, cores=1)
    seen = []
    for number, raw in enumerate(read_split(scan.splits[0], scan.types, config)):
        assert len(raw.rows) <= 7
        assert "note" not in raw.rows.column_names
        if number % 2:
            places = np.array([0, len(raw.rows) - 1])
            found = raw.whole(places)
            assert found.column_names == world.RAW.names
            assert found["note"].to_pylist() == [f"n{uid}" for uid in found["uid"].to_pylist()]
            assert found["uid"].to_pylist() == raw.rows["uid"].take(pa.array(places)).to_pylist()
            seen += found["uid"].to_pylist()
    assert seen == sorted(seen, key=int)
    assert len(seen) >= 6


def test_text_that_lies_as_a_dictionary_is_read_as_one(tmp_path):
    config = world.segment_config()
    letters = np.random.default_rng(0).integers(0, 2**62, 200_000).astype(str)
    table = numbered(0, 1).take(pa.array(np.zeros(200_000, int))).set_column(5, "uid", pa.array(letters))
    scan = plan_scan([write(tmp_path / "a.parquet", table)], config, cores=1)
    raw = next(read_split(scan.splits[0], scan.types, config))
    types = {field.name: pa.types.is_dictionary(field.type) for field in raw.rows.schema}
    assert (types["sku"], types["uid"]) == (True, False)


def test_files_may_differ(tmp_path):
    """A column that one lacks, a wider type, another order of columns."""
    config = world.segment_config()
    old = (
        numbered(0, 2)
        .drop_columns(["weight", "uid"])
        .cast(
            pa.schema(
                [
                    field if field.name != "paid" else pa.field("paid", pa.float32())
                    for field in world.RAW
                    if field.name not in ("weight", "uid")
                ]
            )
        )
    )
    new = numbered(2, 2).select(world.RAW.names[::-1])
    files = [write(tmp_path / "a.parquet", old), write(tmp_path / "b.parquet", new)]
    scan = plan_scan(files, config, cores=1)
    cleaned = [
        raw.cleaner.clean(raw.rows).events for split in scan.splits for raw in read_split(split, scan.types, config)
    ]
    assert [events["event_id"].to_pylist() for events in cleaned] == [[None, None], ["2", "3"]]
    assert [events["amount"].to_pylist() for events in cleaned] == [[0.5, 0.5]] * 2
    whole = next(read_split(scan.splits[0][:1], scan.types, config)).whole(np.array([1]))
    assert json.loads(rows_as_json(whole)[0])["note"] == "n1"


def test_users_of_two_kinds(tmp_path):
    numbers = numbered(0, 1).set_column(1, "customer", pa.array([7]))
    files = [write(tmp_path / "a.parquet", numbered(0, 1)), write(tmp_path / "b.parquet", numbers)]
    with pytest.raises(EventsError, match=r"'customer' \(user_id\).*string in .*a.parquet.*int64 in .*b.parquet"):
        plan_scan(files, world.segment_config(), cores=1)


def test_a_file_without_what_every_event_needs(tmp_path):
    files = [
        write(tmp_path / "a.parquet", numbered(0, 1)),
        write(tmp_path / "b.parquet", numbered(0, 1).drop_columns("at")),
    ]
    with pytest.raises(EventsError, match=r"b.parquet' lacks the columns \['at'\]"):
        plan_scan(files, world.segment_config(), cores=1)


def test_a_column_that_no_file_has_is_left_to_spark(tmp_path):
    assert (
        plan_scan([write(tmp_path / "a.parquet", numbered(0, 1).drop_columns("sku"))], world.segment_config(), 1)
        is None
    )


def test_times_of_96_bits_are_instants(tmp_path):
    moment = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
    table = world.raw_table([GOOD | {"at": moment}])
    file = write(tmp_path / "a.parquet", table, use_deprecated_int96_timestamps=True, store_schema=False)
    assert pq.read_metadata(file).schema.column(2).physical_type == "INT96"
    config = world.segment_config()
    scan = plan_scan([file], config, 1)
    raw = next(read_split(scan.splits[0], scan.types, config))
    assert raw.cleaner.clean(raw.rows).events["event_timestamp"].to_pylist() == [moment]


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, kept):
    file = write(tmp_path / "broken.parquet", numbered(0, 1000))
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(EventsError, match=r"broken.parquet' is not a Parquet file"):
        plan_scan([write(tmp_path / "a.parquet", numbered(0, 1)), file], world.segment_config(), 1)


def test_a_file_damaged_in_the_middle_is_named(tmp_path):
    file = write(tmp_path / "damaged.parquet", numbered(0, 10_000), compression="zstd")
    config = world.segment_config()
    scan = plan_scan([file], config, 1)
    content = bytearray(file.read_bytes())
    content[200 : len(content) // 2] = b"\xff" * (len(content) // 2 - 200)
    file.write_bytes(content)
    with pytest.raises(EventsError, match=r"damaged.parquet' breaks off or is damaged"):
        list(read_split(scan.splits[0], scan.types, config))
