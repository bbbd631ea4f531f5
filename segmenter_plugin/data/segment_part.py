"""The second half of cleaning: all parcels of one bucket to its two files, clean events and refused rows.

Both files are written aside, under a hidden name in their own folder, and renamed when whole: a task that is repeated
or runs twice at a time writes the same again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.arrow_blobs import coded, compact, in_one_piece, unpack
from segmenter_plugin.data.event_days import EventDays
from segmenter_plugin.data.event_intake import DROPPED, EVENTS, REFUSED, REFUSED_SCHEMA, text_columns

ROWS_PER_GROUP = 1 << 17
#: User-days of bots that are named.
BOTS_NAMED = 20


class SegmentPart:
    """One bucket of a segment that is being made.

    Args:
        bucket: Its number.
        config: The configuration.
        events: Folder of the clean events' file.
        quarantine: Folder of the refused rows' file.
    """

    def __init__(self, bucket: int, config: Config, events: Path, quarantine: Path) -> None:
        self._config = config
        self._paths = {EVENTS: part_file(events, bucket), REFUSED: part_file(quarantine, bucket)}
        self._blobs: dict[str, list[bytes]] = {EVENTS: [], DROPPED: [], REFUSED: []}
        self._started = time.process_time()

    def add(self, kind: str, blob: bytes) -> None:
        """Take in a parcel: events, dropped or refused."""
        self._blobs[kind].append(blob)

    def write(self) -> dict[str, Any]:
        """Write what there is; what was counted: kept, capped, users, bots, cpu_seconds."""
        self._write_refused()
        counts = self._write_events() if self._blobs[EVENTS] else {"kept": 0, "capped": 0, "users": 0, "bots": []}
        return counts | {"cpu_seconds": time.process_time() - self._started}

    def _write_refused(self) -> None:
        if self._blobs[REFUSED]:
            path = self._paths[REFUSED]
            with appearing(path) as aside, pq.ParquetWriter(aside, REFUSED_SCHEMA, compression="zstd") as writer:
                for blob in self._blobs[REFUSED]:
                    writer.write_table(unpack([blob]))

    def _write_events(self) -> dict[str, Any]:
        events = unpack(self._blobs[EVENTS])
        events = in_one_piece(coded(events, text_columns(events)))
        dropped = unpack(self._blobs[DROPPED]) if self._blobs[DROPPED] else None
        days = EventDays.of(events, self._config.events.max_events_per_day)
        write_events(events.take(pa.array(days.rows)), self._paths[EVENTS])
        bots = days.bots(dropped)
        capped = sum(bots["events"].to_pylist()) - sum(bots["kept"].to_pylist())
        named = bots.sort_by([("events", "descending")]).select([Columns.user_id, "day", "events"]).slice(0, BOTS_NAMED)
        return {"kept": len(days.rows), "capped": capped, "users": len(days.users), "bots": named.to_pylist()}


def write_events(events: pa.Table, path: Path) -> None:
    """Write clean events as one file of a segment, whole or not at all."""
    has_dictionary = [field.name for field in events.schema if pa.types.is_dictionary(field.type)]
    # lz4 costs far less than zstd, and most columns are dictionaries already; ids of events are what it leaves large.
    options = {
        "compression": {name: "zstd" if name == Columns.event_id else "lz4" for name in events.column_names},
        "use_dictionary": has_dictionary,
        "write_statistics": [Columns.user_id, Columns.event_timestamp],
    }
    with appearing(path) as aside, pq.ParquetWriter(aside, events.schema, **options) as writer:
        for start in range(0, len(events), ROWS_PER_GROUP):
            # A row group's dictionary is written as it is, so it must hold no more than the group uses.
            writer.write_table(compact(events.slice(start, ROWS_PER_GROUP)))


def part_file(folder: Path, bucket: int) -> Path:
    """The file of a bucket."""
    return folder / f"part-{bucket:05d}.parquet"


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, which becomes `path` when the block ends without an error."""
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
