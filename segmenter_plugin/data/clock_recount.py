"""Behaviour and labels of one bucket of users, derived again from the event log and held against what is stored.

Nothing is estimated. Behaviour is derived from a log that ends at the cutoff, so a future event cannot enter it,
whatever the derivation does; a label from a log that begins at the cutoff. What is stored must be the same, user by
user and column by column; only floating numbers may differ in their last bits, as another machine's logarithms do.
Memory is bounded by the events of a bucket, as it is in `build`.

| check | what it compares |
|---|---|
| ``behaviour_from_log`` | sequences and aggregates with those of the events before the cutoff |
| ``users_from_log`` | who has a row with who has an event in the observation window |
| ``labels_from_log`` | labels with those of the events in their windows |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.block_labels import label_columns
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.bucket_block import BucketBlock
from segmenter_plugin.data.clock_findings import Checked, Finding, Place
from segmenter_plugin.data.clock_sameness import differing
from segmenter_plugin.data.coded_text import one_array
from segmenter_plugin.data.event_block import EventBlock, event_columns, microseconds
from segmenter_plugin.data.event_sums import EventSums
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.data.segment_part import part_file
from segmenter_plugin.data.value_traffic import ValueTraffic, counts_of, traffic_of
from segmenter_plugin.schemas import TIMESTAMP, behaviour_schema, conform, labels_schema
from segmenter_plugin.tasks import TaskConfig

#: From the number of a bucket and its file in each segment.
Part = tuple[int, Mapping[int, Path]]
#: Columns named in one finding.
_NAMED = 5


@dataclass(frozen=True)
class BuiltTable:
    """A partition that `build` made of the log at hand.

    Attributes:
        place: Which one.
        folder: With its files, one a bucket.
        complete_through: As `build` knew it; what labels are censored by.
    """

    place: Place
    folder: Path
    complete_through: datetime

    @property
    def cutoff(self) -> datetime:
        """As of when."""
        if self.place.cutoff is None:
            raise ValueError(f"{self.place.table} has no cutoff")
        return self.place.cutoff


@dataclass(frozen=True)
class Recount:
    """Derives one bucket again.

    Attributes:
        part: Of the event log.
        config: What the tables were built with.
        behaviour: Partitions to compare.
        labels: Likewise.
        traffic: Where `windows.trend_columns` names columns: see `bucket_traffic`.
    """

    part: Part
    config: Config
    behaviour: Sequence[BuiltTable]
    labels: Sequence[BuiltTable]
    traffic: Mapping[str, ValueTraffic]

    def __call__(self) -> list[Checked]:
        """Compare the bucket's rows of all partitions."""
        number, paths = self.part
        events = _bucket(paths, self.config).resolved.to_table(self.config)
        found: list[Checked] = []
        for cutoff in sorted({table.cutoff for table in (*self.behaviour, *self.labels)}):
            derived = self._as_of(cutoff, events)
            for table in self.behaviour:
                found += self._behaviour(table, number, derived) if table.cutoff == cutoff else []
            for table in self.labels:
                found += self._labels(table, number, derived, events) if table.cutoff == cutoff else []
        return found

    def _behaviour(self, table: BuiltTable, number: int, derived: pa.Table) -> list[Checked]:
        stored = _stored(table, number, derived.schema)
        users, places = _matched(stored, derived, table.place)
        pairs = _Pairs(stored.filter(pc.is_valid(places)), derived.take(pc.drop_null(places)))
        findings = pairs.findings("behaviour_from_log", table.place, _why_behaviour)
        return [users, Checked("behaviour_from_log", table.place.table, stored.num_rows, findings)]

    def _labels(self, table: BuiltTable, number: int, observed: pa.Table, events: pa.Table) -> list[Checked]:
        stored = _stored(table, number, labels_schema(self.config, _user_type(events)))
        users, _ = _matched(stored, observed, table.place)
        derived = _labels_of(stored, _between(events, table.cutoff, None), table, self.config)

        def why(task: str, pairs: _Pairs) -> str:
            return _why_label(task, pairs, events, table, self.config)

        findings = _Pairs(stored, derived).findings("labels_from_log", table.place, why)
        return [users, Checked("labels_from_log", table.place.table, stored.num_rows, findings)]

    def _as_of(self, cutoff: datetime, events: pa.Table) -> pa.Table:
        """Behaviour as the events before the cutoff give it."""
        schema, before = behaviour_schema(self.config, _user_type(events)), _between(events, None, cutoff)
        if not before.num_rows:
            return schema.empty_table()
        block = EventBlock.of(before, self.config)
        # What a cutoff's labels say is not asked here, so all of them may be censored.
        (made,) = tables_as_of(block, [cutoff], cutoff, self.config, self.traffic)
        return made.behaviour.cast(schema)


@dataclass(frozen=True)
class CountTraffic:
    """Counts the values of `[windows] trend_columns` in one bucket, as of some cutoffs."""

    part: Part
    config: Config
    cutoffs: tuple[datetime, ...]

    def __call__(self) -> pa.Table:
        """See `value_traffic.counts_of`; one table for each cutoff's events before it would be the same."""
        stored = _bucket(self.part[1], self.config).stored.to_table(self.config)
        times = [microseconds(cutoff) for cutoff in self.cutoffs]
        return counts_of(_between(stored, None, max(self.cutoffs)), self.config.windows.trend_columns, times)


def added_traffic(
    counts: Iterable[pa.Table], config: Config, cutoffs: Sequence[datetime]
) -> Mapping[str, ValueTraffic]:
    """What all users met: the counts of all buckets, one added after the other."""
    total: pa.Table | None = None
    for one in counts:
        both = one if total is None else pa.concat_tables([total, one.select(total.column_names)])
        names = [name for name in both.column_names if name not in ("column", "value")]
        summed = both.group_by(["column", "value"]).aggregate([(name, "sum") for name in names])
        total = summed.select(["column", "value", *(f"{name}_sum" for name in names)])
        total = total.rename_columns(["column", "value", *names])
    if total is None:
        return {}
    return traffic_of(total, config.windows.trend_columns, [microseconds(cutoff) for cutoff in cutoffs])


@dataclass(frozen=True)
class _Pairs:
    """Rows as they are stored and as they should be, in one order."""

    stored: pa.Table
    derived: pa.Table

    def findings(self, check: str, place: Place, why: Callable[[str, _Pairs], str]) -> tuple[Finding, ...]:
        """One finding for each reason that columns differ by."""
        differ = {name: rows for name in self._names() if (rows := self.differing(name)).any()}
        reasons: dict[str, list[str]] = {}
        for name in differ:
            reasons.setdefault(why(name, self), []).append(name)
        groups = {reason: {name: differ[name] for name in names} for reason, names in reasons.items()}
        return tuple(self._finding(check, place, reason, rows) for reason, rows in groups.items())

    def differing(self, name: str) -> npt.NDArray[np.bool_]:
        """(N,) where a column is not as it should be."""
        return differing(one_array(self.stored[name]), one_array(self.derived[name]))

    def _names(self) -> list[str]:
        return [name for name in self.stored.column_names if name not in (Columns.user_id, Columns.event_timestamp)]

    def _finding(self, check: str, place: Place, reason: str, differ: Mapping[str, npt.NDArray[np.bool_]]) -> Finding:
        rows = np.any(list(differ.values()), axis=0)
        first = int(np.flatnonzero(rows)[0])
        values: dict[str, str] = {"columns": ", ".join(differ)}
        for name in [name for name, flags in differ.items() if flags[first]][:_NAMED]:
            values[name] = f"{self.stored[name][first].as_py()} is stored, {self.derived[name][first].as_py()} is right"
        user = self.stored[Columns.user_id][first].as_py()
        return Finding(check, place.table, place.cutoff, int(rows.sum()), reason, user=user, values=values)


def _matched(stored: pa.Table, derived: pa.Table, place: Place) -> tuple[Checked, pa.Array]:
    """Whether the right users have rows; and where each stored row's user is among the derived ones."""
    users, right = one_array(stored[Columns.user_id]), one_array(derived[Columns.user_id])
    places = pc.index_in(users, value_set=right)
    missing = right.filter(pc.is_null(pc.index_in(right, value_set=users)))
    told = {
        "a user without an event in the observation window": users.filter(pc.is_null(places)),
        "a user with an event in the observation window has no row": missing,
        "a user has more than one row": users.filter(_repeated(users)),
    }
    findings = tuple(
        Finding("users_from_log", place.table, place.cutoff, len(found), message, user=found[0].as_py())
        for message, found in told.items()
        if len(found)
    )
    return Checked("users_from_log", place.table, len(users), findings), places


def _repeated(users: pa.Array) -> pa.Array:
    counts = pc.value_counts(users)
    more = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return pc.is_in(users, value_set=more)


def _why_behaviour(name: str, pairs: _Pairs) -> str:
    kind = pairs.stored.schema.field(name).type
    if pa.types.is_integer(kind) and pc.any(pc.greater(pairs.stored[name], pairs.derived[name])).as_py():
        return "counts more than happened before the cutoff"
    return "is not what the events before the cutoff give"


def _why_label(name: str, pairs: _Pairs, events: pa.Table, table: BuiltTable, config: Config) -> str:
    """Which window a label is of, where it is not its own."""
    task = next(task for task in config.tasks if task.label_column == name)
    rows = np.flatnonzero(pairs.differing(name))
    stored = pairs.stored.take(pa.array(rows))
    if pairs.derived[name].null_count == pairs.derived.num_rows:
        return "a label whose window ends after the events do"
    earlier = _of_window_before(task, stored, events, table, config)
    if not differing(one_array(stored[name]), earlier).any():
        return "the label of the days before the cutoff"
    return "is not the label of its window"


def _of_window_before(
    task: TaskConfig, stored: pa.Table, events: pa.Table, table: BuiltTable, config: Config
) -> pa.Array:
    """What the label of ``[cutoff - prediction_days, cutoff)`` would be."""
    shift = timedelta(days=task.prediction_days + task.gap_days)
    place = Place(table.place.table, table.cutoff - shift)
    before = BuiltTable(place, table.folder, table.complete_through)
    alone = config.model_copy(update={"tasks": (task,)})
    columns = [Columns.user_id, Columns.event_timestamp, task.label_column]
    return one_array(_labels_of(stored.select(columns), events, before, alone)[task.label_column])


def _labels_of(rows: pa.Table, events: pa.Table, table: BuiltTable, config: Config) -> pa.Table:
    """The labels of the users of some rows; a user without any event has the label of one who does nothing."""
    schema = labels_schema(config, _user_type(events))
    derived = {name: rows[name] for name in (Columns.user_id, Columns.event_timestamp)}
    made: dict[str, pa.Array] = {}
    users = one_array(rows[Columns.user_id])
    places = pa.nulls(len(users), pa.int32())
    if events.num_rows:
        block = EventBlock.of(events, config)
        everybody = np.arange(len(block.users))
        through = table.complete_through
        made = label_columns(
            block, EventSums.of(block, config), everybody, config, cutoff=table.cutoff, complete_through=through
        )
        places = pc.index_in(users, value_set=block.users)
    for task in config.tasks:
        kind = schema.field(task.label_column).type
        known = made[task.label_column].cast(kind) if made else pa.array([], kind)
        is_over = task.window(table.cutoff)[1] <= table.complete_through
        nothing = pa.array([_nothing(task, kind) if is_over else None], kind)
        filled = pc.fill_null(places, len(known))
        derived[task.label_column] = pa.concat_arrays([known, nothing]).take(filled)
    return pa.table(derived).select(schema.names).cast(schema)


def _nothing(task: TaskConfig, kind: pa.DataType) -> Any:
    """The label of a user who does nothing in its window."""
    if pa.types.is_list(kind):
        return []
    if pa.types.is_boolean(kind):
        return False
    return 0.0 if pa.types.is_floating(kind) else task.classes[0]


def _bucket(paths: Mapping[int, Path], config: Config) -> BucketBlock:
    """All events of a bucket: which row an `event_id` stands for is decided by the earliest, however old."""
    columns = event_columns(config)
    return BucketBlock.of([pq.read_table(path, columns=columns, use_threads=False) for path in paths.values()], config)


def _between(events: pa.Table, first: datetime | None, end: datetime | None) -> pa.Table:
    """The events in ``[first, end)``; None is no bound."""
    times = events[Columns.event_timestamp]
    keep = pc.is_valid(times)
    if first is not None:
        keep = pc.and_(keep, pc.greater_equal(times, pa.scalar(first, TIMESTAMP)))
    if end is not None:
        keep = pc.and_(keep, pc.less(times, pa.scalar(end, TIMESTAMP)))
    return events.filter(keep)


def _stored(table: BuiltTable, number: int, schema: pa.Schema) -> pa.Table:
    """The bucket's rows; none where there is no file, as of a bucket in which nobody has an event."""
    name = part_file(Path(), number).name
    paths = [path for path in data_files(table.folder) if path.name == name]
    tables = [pq.read_table(path, use_threads=False, partitioning=None) for path in paths]
    return conform(pa.concat_tables(tables), schema, table.place.table) if tables else schema.empty_table()


def _user_type(events: pa.Table) -> pa.DataType:
    kind = events.schema.field(Columns.user_id).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def strangers(tables: Sequence[BuiltTable], numbers: Iterable[int]) -> Iterator[Checked]:
    """Files of partitions that are of no bucket of the log: their users have no event at all."""
    names = {part_file(Path(), number).name for number in numbers}
    for table in tables:
        for path in data_files(table.folder):
            if path.name not in names:
                rows = pq.read_metadata(path).num_rows
                message = f"rows in {path.name!r}, which is of no bucket of the event log"
                finding = Finding("users_from_log", table.place.table, table.cutoff, rows, message)
                yield Checked("users_from_log", table.place.table, rows, (finding,))
