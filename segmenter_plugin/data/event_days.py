"""Which of some users' events stay: each once, and of a bot's day only the first so many.

Both rules may be applied to parts of the events first and to what is left of them again, with the same outcome: what
is among the first rows of all is among the first of its part. What a part drops is counted by user and day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns
from segmenter_plugin.data.coded_text import one_array
from segmenter_plugin.data.day_runs import DayRuns
from segmenter_plugin.data.event_block import different_users
from segmenter_plugin.data.event_order import Integers, order_events, ranker
from segmenter_plugin.data.user_buckets import Hashes

DAY, EVENTS, IS_CAPPED = "day", "events", "is_capped"
#: A user's place and a day in one number; days of the years 1 to 9999 fit.
_DAY_BITS, _DAY_ZERO = 24, 1 << 23
#: Users are told apart by this many bits of their hash where a rough answer will do.
_SLOT_BITS = 16


@dataclass(frozen=True)
class EventDays:
    """Events in order, cut into runs of one user's rows of one UTC day.

    Attributes:
        rows: (K,) which rows stay, in order of user, time and then every other column.
        users: (U,) different users, ascending.
        owners: (R,) the user of each run, as a place in `users`.
        days: (R,) days since 1970.
        events: (R,) how many rows each run has, repeats included.
        kept: (R,) how many of them stay.
        is_capped: (R,) whether there are more different rows than may stay.
    """

    rows: Integers
    users: pa.Array
    owners: Integers
    days: Integers
    events: Integers
    kept: Integers
    is_capped: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, events: pa.Table, most: int | None) -> Self:
        """Put events in order and decide which stay.

        Args:
            events: Clean events, in any order of rows; columns in the order that ties are broken by.
            most: How many different rows a user may have on one UTC day; None: any number.
        """
        users, owners = different_users(events[Columns.user_id])
        times = one_array(events[Columns.event_timestamp]).view(pa.int64()).to_numpy()
        others = [name for name in events.column_names if name not in (Columns.user_id, Columns.event_timestamp)]
        order, repeats = order_events(owners, times, (ranker(events[name]) for name in others))
        runs = DayRuns.of(owners[order], times[order], repeats)
        is_kept, kept = ~repeats, runs.different
        is_capped = np.zeros(len(kept), np.bool_)
        if most is not None and (is_capped := kept > most).any():
            is_kept &= runs.among_first(most)
            kept = np.minimum(kept, most)
        firsts = order[runs.starts]
        return cls(
            rows=order[is_kept],
            users=users,
            owners=owners[firsts].astype(np.int64),
            days=times[firsts] // MICROS_PER_DAY,
            events=runs.ends - runs.starts,
            kept=kept,
            is_capped=is_capped,
        )

    def dropped(self) -> pa.Table:
        """Users and days with fewer rows than they had: how many fewer, and whether because there were too many."""
        runs = np.flatnonzero(self.events > self.kept)
        return self._table(runs, self.events[runs] - self.kept[runs])

    def bots(self, dropped: pa.Table | None) -> pa.Table:
        """Users and days that had more different rows than may stay: how many rows they had, repeats included.

        Args:
            dropped: What `dropped` of the parts said that these events are left of; users and days may occur often.
        """
        events, is_capped = self.events.copy(), self.is_capped.copy()
        if dropped is not None and dropped.num_rows:
            owners = pc.index_in(one_array(dropped[Columns.user_id]), self.users).to_numpy().astype(np.int64)
            runs = np.searchsorted(_keys(self.owners, self.days), _keys(owners, dropped[DAY].to_numpy()))
            np.add.at(events, runs, dropped[EVENTS].to_numpy())
            np.logical_or.at(is_capped, runs, dropped[IS_CAPPED].to_numpy())
        runs = np.flatnonzero(is_capped)
        return self._table(runs, events[runs]).append_column("kept", pa.array(self.kept[runs]))

    def _table(self, runs: Integers, events: Integers) -> pa.Table:
        columns = {
            Columns.user_id: self.users.take(pa.array(self.owners[runs])),
            DAY: pa.array(self.days[runs], pa.int32()),
            EVENTS: pa.array(events, pa.int64()),
            IS_CAPPED: pa.array(self.is_capped[runs]),
        }
        return pa.table(columns)


def without_surplus(events: pa.Table, hashes: Hashes, most: int | None) -> tuple[Integers | None, pa.Table | None]:
    """Which events stay when what cannot stay of users who have very many of them is left out.

    Args:
        events: N clean events.
        hashes: (N,) `user_buckets.hashes_of` their users.
        most: How many different rows a user may have on one UTC day; None: any number.

    Returns:
        Places of the events that stay, in no particular order, and `EventDays.dropped` of those that are gone; None
        and None where all stay.
    """
    if most is None or len(hashes) <= most:
        return None, None
    # Users who share a slot are few, so a full slot is nearly always one user's: looking closer costs little then.
    slots = (hashes & np.uint64((1 << _SLOT_BITS) - 1)).astype(np.int64)
    is_full = (np.bincount(slots, minlength=1 << _SLOT_BITS) > most)[slots]
    if not is_full.any():
        return None, None
    full = np.flatnonzero(is_full)
    days = EventDays.of(events.take(pa.array(full)), most)
    dropped = days.dropped()
    if not dropped.num_rows:
        return None, None
    return np.concatenate([np.flatnonzero(~is_full), full[days.rows]]), dropped


def _keys(owners: Integers, days: npt.NDArray[np.integer]) -> Integers:
    return (owners << _DAY_BITS) + days + _DAY_ZERO
