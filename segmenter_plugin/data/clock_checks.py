"""The three clocks, checked row by row on record batches: event time, publication time, knowledge of the weights.

| check | a row breaks it where |
|---|---|
| ``row_time`` | it has no user, or its ``event_timestamp`` is not the cutoff of its partition |
| ``event_before_cutoff`` | its sequence holds an event at or after the cutoff, or one without a time |
| ``event_in_observation`` | its sequence holds an event from before the observation window |
| ``recency`` | an age is not positive, longer than the window, or not that of the sequence's last event |
| ``counts`` | a count is not what the sequence holds of its window, or grows as the window shrinks |
| ``label_window`` | it has a label although the events end before the label's window does |
| ``created_after_event`` | it was published before the time that it is true as of, or does not say when |
| ``trained_through_of_rows`` | it names no weights, or another ``trained_through`` than theirs |
| ``seen_after_cutoff`` | a note only: its weights have seen later events, so it may be served but not trained on |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.clock_findings import Checked, Finding, Level, Place
from segmenter_plugin.data.event_block import microseconds
from segmenter_plugin.schemas import TIMESTAMP

Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

_TIMES = Columns.sequence(Columns.event_timestamp)
#: Days that two ways of computing one age may differ by: far below a microsecond.
_DAYS_CLOSE = 1e-9
_MICROS_PER_SECOND = 1_000_000
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Broken:
    """Rows of a batch of N that break a rule.

    Attributes:
        rows: (N,).
        message: What is wrong with them.
        shown: Columns of (N,) to tell of an example.
    """

    rows: Flags
    message: str
    shown: Mapping[str, pa.Array | npt.NDArray[Any]]


class RowCheck(Protocol):
    """A rule that each row of a table keeps."""

    @property
    def name(self) -> str:
        """What findings call it."""

    @property
    def level(self) -> Level:
        """Of its findings."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads, besides the user."""

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:
        """Which rows break the rule, if any do."""


def check_batch(batch: pa.RecordBatch, checks: Iterable[RowCheck], place: Place) -> list[Checked]:
    """Hold one batch against the checks of its table.

    Args:
        batch: (N,) rows with the columns of all checks.
        checks: See `behaviour_checks` and its like.
        place: Which table it is of.
    """
    return [_checked(batch, check, place) for check in checks]


def example(batch: pa.RecordBatch | pa.Table, broken: Broken, place: Place) -> tuple[Any, dict[str, str]]:
    """User and values of the first row that breaks a rule."""
    first = int(np.flatnonzero(broken.rows)[0])
    return batch.column(place.user)[first].as_py(), {name: _text(rows[first]) for name, rows in broken.shown.items()}


def _checked(batch: pa.RecordBatch, check: RowCheck, place: Place) -> Checked:
    broken = check.broken(batch, place)
    count = int(broken.rows.sum())
    if not count:
        return Checked(check.name, place.table, batch.num_rows)
    user, values = example(batch, broken, place)
    finding = Finding(check.name, place.table, place.cutoff, count, broken.message, check.level, user, values)
    return Checked(check.name, place.table, batch.num_rows, (finding,))


def _text(value: Any) -> str:
    plain = value.as_py() if isinstance(value, pa.Scalar) else value
    return plain.isoformat() if isinstance(plain, datetime) else str(plain)


def behaviour_checks(config: Config) -> tuple[RowCheck, ...]:
    """What each row of ``behaviour`` keeps."""
    days = config.windows.observation_days
    kinds = ("event", "order", "active_day", "session", *sorted(config.events.types))
    windows = tuple(sorted({*config.windows.activity_days, days}))
    return RowTime(), EventBeforeCutoff(), EventInObservation(days), Recency(days), Counts(kinds, windows)


def label_checks(config: Config, cutoff: datetime, complete_through: datetime | None) -> tuple[RowCheck, ...]:
    """What each row of ``labels`` keeps; without `complete_through` nothing is known of censoring."""
    if complete_through is None:
        return (RowTime(),)
    ends = {task.label_column: task.window(cutoff)[1] for task in config.tasks}
    return RowTime(), LabelWindow(tuple(name for name, end in ends.items() if end > complete_through))


def made_by_weights_checks(known: Mapping[str, datetime]) -> tuple[RowCheck, ...]:
    """What each row of ``scores`` and ``segments`` keeps; `known` is `TrainedThroughOfRows.known`."""
    return RowTime(), TrainedThroughOfRows(known), SeenAfterCutoff()


def published_checks(columns: Sequence[str], known: Mapping[str, datetime], *, pushed: bool) -> tuple[RowCheck, ...]:
    """What each published row keeps.

    Args:
        columns: Of the rows.
        known: See `TrainedThroughOfRows`.
        pushed: Whether somebody pushed the rows, who need not have said when.
    """
    found: list[RowCheck] = [RowTime(), CreatedAfterEvent(required=not pushed)]
    if Columns.trained_through in columns:
        found += [TrainedThroughOfRows(known), SeenAfterCutoff()]
    return tuple(found)


@dataclass(frozen=True)
class RowTime:
    """A row has a user, and is true as of the cutoff of its partition."""

    name: str = "row_time"
    level: Level = "leak"
    columns: tuple[str, ...] = (Columns.event_timestamp,)

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:
        """See `RowCheck`."""
        times = batch.column(Columns.event_timestamp)
        is_other = pc.is_null(times)
        if place.cutoff is not None:
            other = pc.not_equal(times, pa.scalar(place.cutoff, TIMESTAMP))
            is_other = pc.or_(is_other, pc.fill_null(other, fill_value=True))
        rows = pc.or_(is_other, pc.is_null(batch.column(place.user)))
        return Broken(_flags(rows), "no user, or an event_timestamp that is not the cutoff", {"event_timestamp": times})


@dataclass(frozen=True)
class EventBeforeCutoff:
    """No event of a sequence lies at or after the cutoff."""

    name: str = "event_before_cutoff"
    level: Level = "leak"
    columns: tuple[str, ...] = (_TIMES,)

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:
        """See `RowCheck`."""
        events = _Events.of(batch)
        last = events.last()
        shown = {"last_event": _as_times(last)}
        return Broken(last >= microseconds(_cutoff(place)), "an event at or after the cutoff", shown)


@dataclass(frozen=True)
class EventInObservation:
    """No event of a sequence is older than the observation window."""

    days: int
    name: str = "event_in_observation"
    level: Level = "leak"
    columns: tuple[str, ...] = (_TIMES,)

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:
        """See `RowCheck`."""
        events = _Events.of(batch)
        first = events.first()
        rows = first < microseconds(_cutoff(place)) - self.days * MICROS_PER_DAY
        return Broken(rows, "an event from before the observation window", {"first_event": _as_times(first)})


@dataclass(frozen=True)
class Recency:
    """Ages are positive, no longer than the observation window, and those of the events at hand."""

    days: int
    name: str = "recency"
    level: Level = "leak"
    columns: tuple[str, ...] = (_TIMES, "recency_days", "tenure_days")

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:
        """See `RowCheck`."""
        events = _Events.of(batch)
        recency, tenure = (_floats(batch.column(name)) for name in ("recency_days", "tenure_days"))
        age = (microseconds(_cutoff(place)) - events.last()) / MICROS_PER_DAY
        is_fine = (recency > 0) & (recency <= tenure) & (tenure <= self.days) & (np.abs(recency - age) <= _DAYS_CLOSE)
        shown = {"recency_days": recency, "tenure_days": tenure, "last_event": _as_times(events.last())}
        return Broken(~is_fine, "ages that are not those of events before the cutoff", shown)


@dataclass(frozen=True)
class Counts:
    """Counts are those of the sequence, as far as it reaches back, and no more of a kind than of all events.

    Where the sequence holds more than a window does, the window's events are all in it, and their number is exact.
    """

    kinds: tuple[str, ...]
    windows: tuple[int, ...]
    name: str = "counts"
    level: Level = "leak"

    @property
    def columns(self) -> tuple[str, ...]:
        """See `RowCheck`; the counts of all events come first."""
        return (_TIMES, *(f"{kind}_count_{days}d" for kind in self.kinds for days in self.windows))

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:
        """See `RowCheck`."""
        events, cutoff = _Events.of(batch), microseconds(_cutoff(place))
        total = _counts(batch, f"event_count_{self.windows[-1]}d")
        rows = np.zeros(batch.num_rows, np.bool_)
        for days in self.windows:
            counted, inside = _counts(batch, f"event_count_{days}d"), events.since(cutoff - days * MICROS_PER_DAY)
            is_whole = (inside < events.lengths) | (total <= events.lengths)
            rows |= np.where(is_whole, counted != inside, counted < inside)
            for kind in self.kinds:
                rows |= _counts(batch, f"{kind}_count_{days}d") > counted
        for kind in self.kinds:
            each = [_counts(batch, f"{kind}_count_{days}d") for days in self.windows]
            for short, long in pairwise(each):
                rows |= short > long
        shown = {name: batch.column(name) for name in self.columns[1 : 1 + len(self.windows)]}
        return Broken(rows, "counts that the events before the cutoff do not give", shown)


@dataclass(frozen=True)
class LabelWindow:
    """A label is null while its window is not over."""

    censored: tuple[str, ...]
    name: str = "label_window"
    level: Level = "leak"

    @property
    def columns(self) -> tuple[str, ...]:
        """See `RowCheck`."""
        return self.censored

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:  # noqa: ARG002 - one signature for all
        """See `RowCheck`."""
        rows = np.zeros(batch.num_rows, np.bool_)
        for name in self.censored:
            rows |= _flags(pc.is_valid(batch.column(name)))
        shown = {name: batch.column(name) for name in self.censored}
        return Broken(rows, "a label whose window ends after the events do", shown)


@dataclass(frozen=True)
class CreatedAfterEvent:
    """A row was published at or after the time that it is true as of."""

    required: bool
    name: str = "created_after_event"
    level: Level = "leak"
    columns: tuple[str, ...] = (Columns.event_timestamp, Columns.created_timestamp)

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:  # noqa: ARG002 - one signature for all
        """See `RowCheck`."""
        created, time = batch.column(Columns.created_timestamp), batch.column(Columns.event_timestamp)
        is_early = pc.fill_null(pc.less(created, time), fill_value=False)
        rows = pc.or_(is_early, pc.is_null(created)) if self.required else is_early
        shown = {"created_timestamp": created, "event_timestamp": time}
        return Broken(_flags(rows), "published before the time that it is true as of, or at no time", shown)


@dataclass(frozen=True)
class TrainedThroughOfRows:
    """A row tells of its weights what they tell of themselves; published, rounded up to a whole second.

    Attributes:
        known: Model version -> ``trained_through``; rows of other weights are not judged.
    """

    known: Mapping[str, datetime]
    name: str = "trained_through_of_rows"
    level: Level = "leak"
    columns: tuple[str, ...] = (Columns.model_version, Columns.trained_through)

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:  # noqa: ARG002 - one signature for all
        """See `RowCheck`."""
        versions, through = batch.column(Columns.model_version), batch.column(Columns.trained_through)
        places = pc.fill_null(pc.index_in(versions, value_set=pa.array([*self.known], pa.string())), -1).to_numpy()
        known = np.array([*map(microseconds, self.known.values()), _NEVER])[places]
        said = _micros(through, fill=-_NEVER)
        is_fine = (said == known) | (said == -(-known // _MICROS_PER_SECOND) * _MICROS_PER_SECOND)
        shown = {"model_version": versions, "trained_through": through, "of_the_weights": _as_times(known)}
        is_judged = (places >= 0) | _flags(pc.or_(pc.is_null(versions), pc.is_null(through)))
        return Broken(is_judged & ~is_fine, "another trained_through than that of its weights", shown)


@dataclass(frozen=True)
class SeenAfterCutoff:
    """Notes rows whose weights have seen events after the time that the row is true as of."""

    name: str = "seen_after_cutoff"
    level: Level = "note"
    columns: tuple[str, ...] = (Columns.event_timestamp, Columns.trained_through)

    def broken(self, batch: pa.RecordBatch, place: Place) -> Broken:  # noqa: ARG002 - one signature for all
        """See `RowCheck`."""
        through, time = batch.column(Columns.trained_through), batch.column(Columns.event_timestamp)
        rows = pc.fill_null(pc.greater(through, time), fill_value=False)
        message = "weights that have seen later events: may be served, is refused for training rankers"
        return Broken(_flags(rows), message, {"trained_through": through, "event_timestamp": time})


@dataclass(frozen=True)
class _Events:
    """Times of the sequences of N rows, M in all.

    Attributes:
        times: (M,) microseconds.
        lengths: (N,).
        rows: (M,) which row each is of.
    """

    times: Integers
    lengths: Integers
    rows: Integers

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> _Events:
        lists = batch.column(_TIMES)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
        return cls(_micros(pc.list_flatten(lists), _NEVER), lengths, np.repeat(np.arange(len(lengths)), lengths))

    def last(self) -> Integers:
        return self._reduced(np.maximum, _NEVER)

    def first(self) -> Integers:
        return self._reduced(np.minimum, -_NEVER)

    def since(self, time: int) -> Integers:
        return np.bincount(self.rows[self.times >= time], minlength=len(self.lengths))

    def _reduced(self, reduce: np.ufunc, empty: int) -> Integers:
        """(N,) of each row's times; a row without any breaks every rule."""
        found = np.full(len(self.lengths), empty, np.int64)
        some = self.lengths > 0
        starts = (np.cumsum(self.lengths) - self.lengths)[some]
        if len(starts):
            found[some] = reduce.reduceat(self.times, starts)
        return found


def _cutoff(place: Place) -> datetime:
    if place.cutoff is None:
        raise ValueError(f"{place.table} has no cutoff")
    return place.cutoff


def _flags(array: pa.Array) -> Flags:
    return np.asarray(array.to_numpy(zero_copy_only=False), np.bool_)


def _micros(array: pa.Array, fill: int) -> Integers:
    return pc.fill_null(array.cast(TIMESTAMP).cast(pa.int64()), fill).to_numpy(zero_copy_only=False)


def _floats(array: pa.Array) -> npt.NDArray[np.float64]:
    """Null becomes NaN, which is neither above nor below anything."""
    return array.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _counts(batch: pa.RecordBatch, name: str) -> Integers:
    return pc.fill_null(batch.column(name), -1).to_numpy(zero_copy_only=False)


def _as_times(micros: Integers) -> pa.Array:
    """Times to show; null where there is none."""
    return pa.array(micros, mask=np.abs(micros) == _NEVER).view(TIMESTAMP)
