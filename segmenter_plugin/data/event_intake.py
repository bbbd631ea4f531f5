"""The first half of cleaning: the owner's rows to clean events, sorted into buckets of users.

What comes out are parcels, each for one bucket: packed events, counts of what was dropped on the way, refused rows, and
at the end what was counted. What is kept in memory is bounded by `_FLUSH_ROWS`, not by what comes in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.arrow_blobs import coded, in_one_piece, pack, split
from segmenter_plugin.data.event_cleaner import CleanedRows, EventCleaner
from segmenter_plugin.data.event_days import without_surplus
from segmenter_plugin.data.event_order import Integers
from segmenter_plugin.data.raw_rows import rows_as_json
from segmenter_plugin.data.user_buckets import buckets_of, buckets_of_hashes, hashes_of

EVENTS, DROPPED, REFUSED, COUNTS = "events", "dropped", "refused", "counts"
REFUSED_SCHEMA = pa.schema([(Columns.quarantine_reason, pa.string()), (Columns.raw_row, pa.string())])
#: Examples of each reason that are shown.
EXAMPLES = 3

_FLUSH_ROWS, _FLUSH_BYTES = 1 << 20, 1 << 28
_REFUSED_ROWS = 1 << 15
#: A dictionary with more entries than this share of the rows saves nothing.
_MOST_ENTRIES = 0.5


class Parcel(NamedTuple):
    """Something for one bucket; `blob` is a packed table (`arrow_blobs`), or JSON in the case of counts."""

    bucket: int
    kind: str
    blob: bytes


class EventIntake:
    """One task's share of the owner's rows.

    Args:
        config: The configuration.
        buckets: How many buckets of users there are.
        number: Of the task; refused rows and counts go to the bucket that it names.
    """

    def __init__(self, config: Config, buckets: int, number: int) -> None:
        self._config, self._buckets, self._own = config, buckets, number % buckets
        self._waiting: list[pa.Table] = []
        self._refused: dict[str, list[str]] = {name: [] for name in REFUSED_SCHEMA.names}
        self._too_various: set[str] = set()
        self._counts = {"task": number, "rows": 0, "packed_bytes": 0}
        self._reasons: Counter[str] = Counter()
        self._unreadable: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._times: list[int] = []

    def add(
        self, rows: pa.Table, cleaner: EventCleaner, whole_rows: Callable[[Integers], pa.Table]
    ) -> Iterator[Parcel]:
        """Take in some rows.

        Args:
            rows: The owner's, with the columns that the cleaner needs.
            cleaner: Made for their schema.
            whole_rows: Some of the rows, given by their places, with all columns that the owner has.
        """
        cleaned = cleaner.clean(rows)
        self._counts["rows"] += rows.num_rows
        self._unreadable.update(cleaned.unreadable)
        if len(cleaned.refused):
            self._refuse(cleaned, whole_rows)
        if cleaned.events.num_rows:
            ends = pc.min_max(cleaned.events[Columns.event_timestamp].cast(pa.int64())).as_py()
            self._times += [ends["min"], ends["max"]]
            self._waiting.append(cleaned.events)
        if len(self._refused[Columns.raw_row]) >= _REFUSED_ROWS:
            yield self._refused_parcel()
        if (
            sum(table.num_rows for table in self._waiting) >= _FLUSH_ROWS
            or sum(table.nbytes for table in self._waiting) >= _FLUSH_BYTES
        ):
            yield from self._flush()

    def end(self) -> Iterator[Parcel]:
        """What is left once all rows are in, and the counts."""
        if self._waiting:
            yield from self._flush()
        if self._refused[Columns.raw_row]:
            yield self._refused_parcel()
        counts = {
            **self._counts,
            "first": min(self._times, default=None),
            "last": max(self._times, default=None),
            "quarantined": self._reasons,
            "unreadable": self._unreadable,
            "examples": self._examples,
        }
        # No clock stands in it: a repeated task must yield the same bytes, or Spark has to give the job up.
        yield Parcel(self._own, COUNTS, json.dumps(counts).encode())

    def _refuse(self, cleaned: CleanedRows, whole_rows: Callable[[Integers], pa.Table]) -> None:
        reasons = cleaned.reasons.to_pylist()
        texts = rows_as_json(whole_rows(cleaned.refused))
        self._refused[Columns.quarantine_reason] += reasons
        self._refused[Columns.raw_row] += texts
        self._reasons.update(reasons)
        for reason, text in zip(reasons, texts, strict=True):
            examples = self._examples.setdefault(reason, [])
            if len(examples) < EXAMPLES:
                examples.append(text)

    def _refused_parcel(self) -> Parcel:
        blob = pack(pa.table(self._refused, schema=REFUSED_SCHEMA))
        self._refused = {name: [] for name in REFUSED_SCHEMA.names}
        return self._parcel(self._own, REFUSED, blob)

    def _flush(self) -> Iterator[Parcel]:
        events = in_one_piece(self._coded(pa.concat_tables(self._alike(self._waiting))))
        self._waiting = []
        hashes = hashes_of(events[Columns.user_id])
        kept, dropped = without_surplus(events, hashes, self._config.events.max_events_per_day)
        if dropped is not None:
            places = buckets_of(dropped[Columns.user_id], self._buckets)
            for bucket, part in split(dropped, places, self._buckets):
                yield self._parcel(bucket, DROPPED, pack(part))
        parts = buckets_of_hashes(hashes if kept is None else hashes[kept], self._buckets)
        for bucket, part in split(events, parts, self._buckets, kept):
            yield self._parcel(bucket, EVENTS, pack(part))

    def _alike(self, tables: list[pa.Table]) -> list[pa.Table]:
        """Tables with the same columns as dictionaries."""
        is_coded = {field.name for table in tables for field in table.schema if pa.types.is_dictionary(field.type)}
        return [coded(table, is_coded) for table in tables]

    def _coded(self, events: pa.Table) -> pa.Table:
        """Text as dictionaries wherever it has few different values."""
        names = text_columns(events) - self._too_various
        events_coded = coded(events, names)
        for name in names:
            entries = sum(len(chunk.dictionary) for chunk in events_coded[name].chunks)
            if not pa.types.is_dictionary(events[name].type) and entries > _MOST_ENTRIES * len(events):
                self._too_various.add(name)
                place = events_coded.column_names.index(name)
                events_coded = events_coded.set_column(place, name, events[name])
        return events_coded

    def _parcel(self, bucket: int, kind: str, blob: bytes) -> Parcel:
        self._counts["packed_bytes"] += len(blob)
        return Parcel(bucket, kind, blob)


def text_columns(events: pa.Table) -> set[str]:
    """Columns of clean events that are worth a dictionary: text that repeats."""
    single = {Columns.event_id, Columns.text}
    return {field.name for field in events.schema if not _is_number(field.type)} - single


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)
