"""All clean events of some users, in one order, column by column: what every cutoff is then read from.

Rows lie in order of user, time and then every other column, so the order is total: it depends neither on how events
were partitioned nor on the order they came in. A user's events before a time are then a range of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.coded_text import CodedText, entry_ranks, one_array
from segmenter_plugin.data.day_runs import DayRuns
from segmenter_plugin.data.event_ids import later_namesakes
from segmenter_plugin.data.event_order import Flags, Integers, order_events, ranker, running
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
        texts: Text columns that are only told apart and written, `event_id` among them; all rows of the table that they
            came in, in its order.
        rows: (N,) which row of that table each one is.
    """

    users: pa.Array
    offsets: Integers
    owners: npt.NDArray[np.int32]
    times: Integers
    words: dict[str, CodedText]
    numbers: dict[str, Numbers]
    repeats: Flags
    texts: dict[str, pa.ChunkedArray]
    rows: Integers

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, events: pa.Table, config: Config) -> Self:
        """Put clean events in order.

        Args:
            events: Columns of `event_columns`, in any order of rows, and any further ones; `user_id` text or int64,
                `event_timestamp` a timestamp in UTC. Text may be in dictionaries, which is faster. Rows that are in
                order already are only looked through.
            config: Says which columns there are.

        Raises:
            SchemaError: A column is missing, or a user or a time is null.
        """
        _check(events, config)
        users, owners = different_users(events[Columns.user_id])
        times = one_array(events[Columns.event_timestamp].cast(TIMESTAMP)).view(pa.int64()).to_numpy()
        words = {name: CodedText.of(events[name]) for name in _word_columns(config)}
        names = event_columns(config)[2:]
        rows, repeats = order_events(owners, times, (ranker(words.get(name, events[name])) for name in names))
        # What was in order need not be moved.
        places = slice(None) if _is_ascending(rows) else rows
        return cls(
            users=users,
            offsets=_offsets(owners, len(users)),
            owners=owners[places],
            times=times[places],
            words={name: column.take(places) for name, column in words.items()},
            numbers={name: _numbers(events[name])[places] for name in numeric_columns(config)},
            repeats=repeats,
            texts={name: events[name] for name in names if name not in {*words, *numeric_columns(config)}},
            rows=rows,
        )

    def distinct(self) -> Self:
        """The block without rows that equal another one in every column."""
        return self._only(~self.repeats)

    def capped(self, most: int | None) -> Self:
        """The block with at most so many different rows of one user and one UTC day: the first of them.

        It may be applied to parts of the events first and to what is left of them again, with the same outcome.

        Args:
            most: None for any number.
        """
        if most is None or len(self) <= most:
            return self
        days = self.times // MICROS_PER_DAY
        far_owners, far_days = self.owners[most:] == self.owners[:-most], days[most:] == days[:-most]
        if not (far_owners & far_days).any():
            return self
        return self._only(DayRuns.of(self.owners, self.times, self.repeats).among_first(most))

    def without_duplicates(self) -> Self:
        """The block with each event once.

        Of a user's rows with one `event_id` the earliest stays, so that an event before a cutoff is not displaced by
        one after it; rows without an `event_id` are duplicates if they are equal in every column.
        """
        if Columns.event_id not in self.texts:
            return self.distinct()
        is_kept = ~self.repeats
        is_kept[later_namesakes(self.owners, self.texts[Columns.event_id], self.rows)] = False
        return self._only(is_kept)

    def to_table(self, config: Config) -> pa.Table:
        """The rows as `event_columns`, in the block's order; text with few values as dictionaries.

        Args:
            config: The configuration that the block was made with.
        """
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            Columns.user_id: _as_text(CodedText.under(self.owners, self.users))
            if pa.types.is_string(self.users.type)
            else self.users.take(pa.array(self.owners)),
            Columns.event_timestamp: pa.array(self.times).view(TIMESTAMP),
        }
        columns |= {name: _as_text(column) for name, column in self.words.items()}
        # NaN is how the block says null.
        columns |= {name: pa.array(column, from_pandas=True) for name, column in self.numbers.items()}
        columns |= {name: one_array(column).take(pa.array(self.rows)) for name, column in self.texts.items()}
        return pa.table({name: columns[name] for name in event_columns(config)})

    def _only(self, is_kept: Flags) -> Self:
        """Some of the rows, of every user at least one; what repeats a row that goes must go too."""
        if is_kept.all():
            return self
        places = np.flatnonzero(is_kept)
        owners = self.owners[places]
        return replace(
            self,
            offsets=_offsets(owners, len(self.users)),
            owners=owners,
            times=self.times[places],
            words={name: column.take(places) for name, column in self.words.items()},
            numbers={name: column[places] for name, column in self.numbers.items()},
            repeats=self.repeats[places],
            rows=self.rows[places],
        )

    def before(self, time: int) -> Integers:
        """(U,) where each user's rows at or after a time begin.

        Args:
            time: Microseconds since 1970 UTC.
        """
        return self.offsets[:-1] + np.diff(running(self.times < time)[self.offsets])


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


def _as_text(column: CodedText) -> pa.Array:
    """As a dictionary, unless it would have nearly as many entries as there are rows."""
    return column.dictionary() if 2 * len(column.entries) < len(column.codes) else column.text()


def _is_ascending(rows: Integers) -> bool:
    return bool((rows[1:] > rows[:-1]).all())


def _numbers(column: pa.ChunkedArray) -> Numbers:
    # Adding 0 makes -0 the 0 that it equals, so that which of them came first is not seen.
    # Null becomes NaN on the way.
    return column.cast(pa.float64()).to_numpy() + 0.0


def different_users(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Different users, ascending, and which of them each row is of."""
    known = _users_in_order(column)
    if known is not None:
        return known
    if pa.types.is_integer(column.type):
        coded = one_array(column.cast(pa.int64()).dictionary_encode())
        different, codes = coded.dictionary, coded.indices.to_numpy()
    else:
        text = CodedText.of(column)
        different, codes = text.entries.slice(1), text.codes - np.int32(1)
    ranks = entry_ranks(different)
    # A dictionary may have entries that no row uses.
    is_used = np.zeros(len(different), np.bool_)
    is_used[codes] = True
    used = np.flatnonzero(is_used)
    used = used[np.argsort(ranks[used])]
    owners = np.empty(len(different), np.int32)
    owners[used] = np.arange(len(used), dtype=np.int32)
    return different.take(pa.array(used)), owners[codes]


def _users_in_order(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int32]] | None:
    """`different_users` of a dictionary of text that is in order, else None: without a look at each row's text."""
    if not pa.types.is_dictionary(column.type) or column.null_count:
        return None
    names, lengths = [pa.array([], column.type.value_type)], []
    for chunk in column.chunks:
        codes = chunk.indices.to_numpy()
        starts = np.flatnonzero(np.diff(codes, prepend=codes[:1] - 1))
        names.append(chunk.dictionary.take(pa.array(codes[starts])))
        lengths.append(np.diff(starts, append=len(codes)))
    text = CodedText.of_ascending(pa.concat_arrays(names))
    if text is None:
        return None
    return text.entries.slice(1), np.repeat(text.codes - np.int32(1), np.concatenate([[], *lengths]).astype(np.int64))


def _offsets(owners: npt.NDArray[np.int32], users: int) -> Integers:
    """(U + 1,) where each user's rows begin once they are in order."""
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=users), out=offsets[1:])
    return offsets
