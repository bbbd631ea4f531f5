"""The event log: what a reader sees before, between and after each step of a change."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data import event_log
from segmenter_plugin.data.event_log import EventLog, Segment, content_fingerprint, next_number
from segmenter_plugin.data.staging import staged
from segmenter_plugin.errors import ConcurrentRunError, FormatVersionError

SETTINGS = {"path": "events/*.parquet"}


def segment(number, **changes):
    values = {
        "number": number,
        "lots": (number,),
        "rows": 10,
        "kept": 8,
        "duplicates": 1,
        "capped": 0,
        "quarantined": {"price_negative": 1},
        "first": f"2024-01-{number:02d}T00:00:00+00:00",
        "last": f"2024-02-{number:02d}T00:00:00+00:00",
        "sources": {f"{number}.parquet": "1-1"},
        "columns": {"customer": "int64"},
    }
    return Segment(**values | changes)


def write_segment(folder: Path, buckets=(0, 2), *, refused=True):
    """What cleaning leaves in a staging folder."""
    for table in ("events", "quarantine"):
        (folder / table).mkdir()
    for bucket in buckets:
        pq.write_table(pa.table({"user_id": [bucket]}), folder / "events" / f"part-{bucket:05d}.parquet")
    if refused:
        pq.write_table(pa.table({"raw_row": ["{}"]}), folder / "quarantine" / "part-00000.parquet")


def change(root: Path, log: EventLog, before: EventLog | None, **what) -> EventLog:
    with staged(root / "events", root) as staging:
        write_segment(staging.folder, **what)
        log.commit(staging.folder, before)
    return log


def begun(root: Path) -> EventLog:
    return EventLog(root, SETTINGS, 4, "int64", ())


@pytest.fixture
def log(tmp_path):
    """A log of two segments; of the second, nothing was refused."""
    one = change(tmp_path, begun(tmp_path).with_segment(segment(1)), None)
    return change(tmp_path, one.with_segment(segment(2)), one, buckets=(2, 3), refused=False)


def names(root: Path, table: str) -> list[str]:
    return sorted(path.name for path in (root / table).iterdir())


def test_a_log_is_read_as_it_was_committed(log, tmp_path):
    assert EventLog.read(tmp_path) == log
    assert names(tmp_path, "events") == ["manifest.json", "segment-00001", "segment-00002"]
    assert names(tmp_path, "quarantine") == ["segment-00001"]
    found = {bucket: {number: path.parent.name for number, path in paths.items()} for bucket, paths in log.parts()}
    assert found == {
        0: {1: "segment-00001"},
        2: {1: "segment-00001", 2: "segment-00002"},
        3: {2: "segment-00002"},
    }


def test_what_a_log_sums_up(log):
    assert log.counts == {
        "rows": 20,
        "kept": 16,
        "duplicates": 2,
        "capped": 0,
        "quarantined": {"price_negative": 2},
    }
    assert (log.begins, log.ends) == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 2, tzinfo=UTC))
    assert log.sources == {"1.parquet": "1-1", "2.parquet": "1-1"}
    assert log.lots == {1, 2}


def test_an_empty_lot_has_no_times(log):
    assert log.with_segment(segment(3, first=None, last=None)).begins == log.begins
    assert replace(log, segments=(segment(1, first=None, last=None),)).ends is None


def test_the_fingerprint_is_that_of_the_files(log, tmp_path):
    at_once = begun(tmp_path).with_segment(segment(7, sources=log.sources))
    assert log.fingerprint == at_once.fingerprint == content_fingerprint(log.sources, SETTINGS)
    assert log.fingerprint != log.with_segment(segment(3)).fingerprint
    assert log.fingerprint != replace(log, settings={}).fingerprint
    changed = begun(tmp_path).with_segment(segment(1, sources=log.sources | {"1.parquet": "1-2"}))
    assert log.fingerprint != changed.fingerprint


def test_merging_keeps_counts_and_refused_rows_and_removes_segments_one_change_later(log, tmp_path):
    merged = log.merged(kept=15, duplicates=1, capped=0)
    assert (merged.fingerprint, merged.lots, merged.begins) == (log.fingerprint, log.lots, log.begins)
    assert merged.counts == log.counts | {"kept": 15, "duplicates": 3}
    change(tmp_path, merged, log, refused=False)
    assert names(tmp_path, "events") == ["manifest.json", "segment-00001", "segment-00002", "segment-00003"]
    # Who read the manifest before can still read all that it named.
    assert all(path.exists() for _, paths in log.parts() for path in paths.values())
    change(tmp_path, merged.with_segment(segment(4)), merged)
    assert names(tmp_path, "events") == ["manifest.json", "segment-00003", "segment-00004"]
    assert names(tmp_path, "quarantine") == ["segment-00001", "segment-00004"]


def test_a_log_begun_anew_takes_the_place_of_the_other(log, tmp_path):
    assert next_number(tmp_path) == 3
    change(tmp_path, begun(tmp_path).with_segment(segment(3)), log)
    assert EventLog.read(tmp_path).lots == {3}
    assert next_number(tmp_path) == 4


@pytest.mark.parametrize(
    ("scattered", "kept"),
    [(False, [10]), (False, [10, 5]), (True, [10, 6]), (True, [100, *[1] * 8]), (False, [100, *[1] * 7])],
)
def test_when_merging_pays(tmp_path, scattered, kept):
    segments = tuple(segment(number, kept=rows) for number, rows in enumerate(kept, start=1))
    assert replace(begun(tmp_path), segments=segments).is_scattered == scattered


#: The steps of a change, in order, each with what a crash just before it must leave visible.
STEPS = ["sync_tree", "replace_text", "_remove_all_but"]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_shows_the_log_before_or_after_and_the_next_change_cleans_up(log, tmp_path, step, monkeypatch):
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    extended = log.with_segment(segment(3))
    monkeypatch.setattr(event_log, step, crash)
    with pytest.raises(KeyboardInterrupt):
        change(tmp_path, extended, log)
    monkeypatch.undo()
    seen = EventLog.read(tmp_path)
    assert seen == (extended if step == "_remove_all_but" else log)
    assert all(pq.read_metadata(path).num_rows for _, paths in seen.parts() for path in paths.values())
    number = next_number(tmp_path)
    assert number == (3 if step == "sync_tree" else 4)
    again = change(tmp_path, seen.with_segment(segment(number)), seen)
    assert EventLog.read(tmp_path) == again
    assert set(names(tmp_path, "events")) == {"manifest.json", *(one.name for one in again.segments)}


def test_a_crash_between_the_two_folders(log, tmp_path, monkeypatch):
    """Refused rows are there, their segment is not."""
    rename = Path.rename

    def crash(path: Path, target: Path) -> Path:
        if path.name == "events":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        change(tmp_path, log.with_segment(segment(3)), log)
    monkeypatch.undo()
    assert EventLog.read(tmp_path) == log
    assert next_number(tmp_path) == 4
    change(tmp_path, log.with_segment(segment(4)), log)
    assert names(tmp_path, "quarantine") == ["segment-00001", "segment-00004"]


def test_two_changes_of_one_log_are_not_mixed(log, tmp_path):
    change(tmp_path, log.with_segment(segment(3)), log)
    with pytest.raises(ConcurrentRunError, match="changed by another run"):
        change(tmp_path, log.with_segment(segment(4)), log)
    with (
        pytest.raises(ConcurrentRunError),
        staged(tmp_path / "events", tmp_path),
        staged(tmp_path / "events", tmp_path),
    ):
        pass


def test_what_is_no_log(tmp_path):
    assert EventLog.read(tmp_path) is None
    assert next_number(tmp_path) == 1
    (tmp_path / "events").mkdir()
    # As earlier versions wrote clean events: a partition.
    (tmp_path / "events" / "manifest.json").write_text(json.dumps({"format_version": 1, "fingerprint": "x"}))
    (tmp_path / "events" / "part-00000.parquet").write_bytes(b"")
    assert EventLog.read(tmp_path) is None
    change(tmp_path, begun(tmp_path).with_segment(segment(1)), None)
    assert names(tmp_path, "events") == ["manifest.json", "segment-00001"]
    (tmp_path / "events" / "manifest.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(FormatVersionError):
        EventLog.read(tmp_path)
