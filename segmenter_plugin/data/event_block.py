"""All clean events of some users, in one order, column by column: what every cutoff is then read from.

Rows lie in order of user, time and then every other column, so the order is total: it depends neither on how events
were partitioned nor on the order they came in. A user's events before a time are then a range of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.coded_text import CodedText, entry_ranks, one_array
from segmenter_plugin.data.event_order import Flags, Integers, order_events, ordered, ranker
from segmenter_plugin.errors import SchemaError
from segmenter_plugin.schemas import TIMESTAMP, categorical_columns, numeric_columns

Numbers = npt.NDArray[np.float64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_columns(config: Config) -> list[str]:
    """Columns of clean events, in order; after the first two they are what orders events of equal time."""
    mapped, columns = config.events.columns.mapped, config.events.columns
    ids = (Columns.event_id, Columns.order_id, Columns.session_id, Columns.category, Columns.brand)
    optional = [name for name in ids if name in mapped]
    text = [Columns.text] if Columns.text in mapped else []
    required = [Columns.user_id, Columns.event_timestamp, Columns.event_type, Columns.item_id]
    return [*required, *optional, *columns.categorical, *text, *numeric_columns(config)]


def microseconds(time: datetime) -> int:
    """Microseconds since 1970 UTC of a time with a zone."""
    return (time - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class EventBlock:
    """Events in order, as columns.

    U is the number of users, N of events.

    Attributes:
        users: (U,) their ids, ascending (text by its UTF-8 bytes); string or int64.
        offsets: (U + 1,) where each user's rows begin.
        owners: (N,) the user of each row, as a place in `users`.
        times: (N,) microseconds since 1970 UTC.
        words: Categorical columns, (N,) each; the identifiers of orders and sessions are among them.
        numbers: Numeric columns, (N,) float64 each, NaN where absent.
        repeats: (N,) whether a row equals the one before it in every column.
        event_ids: (N,) strings where the owner has such ids, in the order of the table that they came in.
        rows: (N,) which row of that table each one is.
    """

    users: pa.Array
    offsets: Integers
    owners: npt.NDArray[np.int32]
    times: Integers
    words: dict[str, CodedText]
    numbers: dict[str, Numbers]
    repeats: Flags
    event_ids: pa.ChunkedArray | None
    rows: Integers

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, events: pa.Table, config: Config) -> Self:
        """Put clean events in order.

        Args:
            events: Columns of `event_columns`, in any order of rows; `user_id` string or int64, `event_timestamp` a
                timestamp in UTC. Further columns, text or numbers, only tell otherwise equal rows apart.
            config: Says which columns there are.

        Raises:
            SchemaError: A column is missing, or a user or a time is null.
        """
        _check(events, config)
        users, owners = _users(events[Columns.user_id])
        times = one_array(events[Columns.event_timestamp].cast(TIMESTAMP)).view(pa.int64()).to_numpy()
        words = {name: CodedText.of(events[name]) for name in _word_columns(config)}
        own = event_columns(config)
        names = [*own[2:], *(name for name in events.column_names if name not in own)]
        rankers = (ranker(words[name] if name in words else events[name]) for name in names)
        rows, repeats = order_events(owners, times, rankers)
        return cls(
            users=users,
            offsets=_offsets(owners, len(users)),
            owners=owners[rows],
            times=times[rows],
            words={name: column.take(rows) for name, column in words.items()},
            numbers={name: _numbers(events[name])[rows] for name in numeric_columns(config)},
            repeats=repeats,
            event_ids=events[Columns.event_id] if Columns.event_id in own else None,
            rows=rows,
        )

    def without_duplicates(self) -> Self:
        """The block with each event once.

        Of a user's rows with one `event_id` the earliest stays, so that an event before a cutoff is not displaced by
        one after it; rows without an `event_id` are duplicates if they are equal in every column.
        """
        is_kept = ~self.repeats
        if self.event_ids is not None:
            ids = CodedText.of(self.event_ids).codes[self.rows]
            named = np.flatnonzero(ids)
            order, is_same = ordered(self.owners[named], ids[named])
            # The order is stable and rows are in order of time: what equals its predecessor is not the earliest.
            is_kept[named[order[is_same]]] = False
        return self if is_kept.all() else self._only(np.flatnonzero(is_kept))

    def _only(self, places: Integers) -> Self:
        """Some of the rows; every user keeps at least one."""
        owners = self.owners[places]
        return replace(
            self,
            offsets=_offsets(owners, len(self.users)),
            owners=owners,
            times=self.times[places],
            words={name: column.take(places) for name, column in self.words.items()},
            numbers={name: column[places] for name, column in self.numbers.items()},
            repeats=np.zeros(len(places), np.bool_),
            rows=self.rows[places],
        )

    def before(self, time: int) -> Integers:
        """(U,) where each user's rows at or after a time begin.

        Args:
            time: Microseconds since 1970 UTC.
        """
        return self.offsets[:-1] + np.diff(running(self.times < time)[self.offsets])


def running(values: npt.NDArray[np.bool_ | np.int64]) -> npt.NDArray[Any]:
    """(N + 1,) sums of the values before each place: of (N,) flags as int32, of numbers as int64."""
    sums = np.zeros(len(values) + 1, np.int32 if values.dtype == np.bool_ else np.int64)
    np.cumsum(values, dtype=sums.dtype, out=sums[1:])
    return sums


def places_of(starts: Integers, ends: Integers) -> tuple[Integers, npt.NDArray[np.int32]]:
    """Places of several ranges of rows, one after the other.

    Args:
        starts: (U,) first places.
        ends: (U,) places after the last; not below `starts`.

    Returns:
        (M,) places; and (U + 1,) where each range begins among them.
    """
    lengths = ends - starts
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return places, offsets.astype(np.int32)


def _check(events: pa.Table, config: Config) -> None:
    missing = [name for name in event_columns(config) if name not in events.column_names]
    if missing:
        raise SchemaError(
            f"the events lack the columns {missing}; they have {events.column_names}.",
            hint="they were cleaned with another configuration; run `segmenter build` again.",
        )
    for name in (Columns.user_id, Columns.event_timestamp):
        if events[name].null_count:
            raise SchemaError(f"{events[name].null_count} events have no {name}; cleaning refuses such rows.")


def _word_columns(config: Config) -> Iterable[str]:
    mapped = config.events.columns.mapped
    ids = [name for name in (Columns.order_id, Columns.session_id) if name in mapped]
    return [*categorical_columns(config), *ids]


def _numbers(column: pa.ChunkedArray) -> Numbers:
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()


def _users(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Different users, ascending, and which of them each row is of."""
    plain = column.cast(pa.int64() if pa.types.is_integer(column.type) else pa.string())
    coded = one_array(plain.dictionary_encode())
    ranks = entry_ranks(coded.dictionary).astype(np.int32)
    return coded.dictionary.take(pc.array_sort_indices(coded.dictionary)), ranks[coded.indices.to_numpy()]


def _offsets(owners: npt.NDArray[np.int32], users: int) -> Integers:
    """(U + 1,) where each user's rows begin once they are in order."""
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=users), out=offsets[1:])
    return offsets
