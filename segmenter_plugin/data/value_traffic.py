"""How much each value of a column (an item, a category) was met by all users before a cutoff, and from there its trend.

What is counted are *user-days*: on how many days of how many users the value occurred. Rows that are repeated or were
sent twice change nothing in it, and a busy user counts once a day; so the rows of the event log are counted as they are
stored, without asking which of those with one `event_id` is the right one. Days are 24 hours counted back from the
cutoff T; nothing at or after T is looked at.

| of a value | is |
|---|---|
| popularity | ``log(1 + user-days in [T - 28 d, T))`` |
| trend | ``log((recent + 1/7) / (earlier + 1/7))``, user-days a day in ``[T - 7 d, T)`` and ``[T - 35 d, T - 7 d)`` |

The smoothing is one user-day a week: a value that was met once last week and never before has trend log 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns
from segmenter_plugin.data.coded_text import CodedText, one_array
from segmenter_plugin.data.event_block import Numbers, different_users
from segmenter_plugin.data.event_order import Integers
from segmenter_plugin.schemas import TIMESTAMP

RECENT_DAYS, POPULAR_DAYS, TRAFFIC_DAYS = 7, 28, 35
_EDGES = (RECENT_DAYS, POPULAR_DAYS, TRAFFIC_DAYS)

Owners = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ValueTraffic:
    """User-days of the values of one column before each of C cutoffs.

    Attributes:
        cutoffs: Microseconds since 1970 UTC, C of them.
        values: (V,) different text: what occurred in the 35 days before any of the cutoffs.
        user_days: (C, 3, V) in [T - 7 d, T), [T - 28 d, T - 7 d) and [T - 35 d, T - 28 d).
    """

    cutoffs: tuple[int, ...]
    values: pa.StringArray
    user_days: npt.NDArray[np.int32]

    def statistics(self, cutoff: int, values: pa.Array) -> dict[str, Numbers]:
        """What is said of values as of one of the cutoffs.

        Args:
            cutoff: Microseconds since 1970 UTC.
            values: (K,) text; null and what did not occur have no user-days.

        Returns:
            ``trend`` and ``popularity``, (K,) each.
        """
        places = pc.fill_null(pc.index_in(values, value_set=self.values), len(self.values)).to_numpy()
        user_days = self.user_days[self.cutoffs.index(cutoff)].astype(np.int64)
        newest, middle, oldest = np.pad(user_days, ((0, 0), (0, 1)))[:, places]
        # Both rates times 28 days, so that only whole numbers are divided.
        ratio = 4 * (newest + 1) / (middle + oldest + 4)
        return {"trend": np.log(ratio), "popularity": np.log1p(newest + middle)}


def counts_of(events: pa.Table, columns: Iterable[str], cutoffs: Sequence[int]) -> pa.Table:
    """Count the values that some users met.

    Args:
        events: All clean events of these users in the 35 days before each cutoff, and any others; equal rows may
            repeat. Columns `user_id`, `event_timestamp` and `columns`.
        columns: Which columns' values are counted.
        cutoffs: Microseconds since 1970 UTC.

    Returns:
        One row a column and value: ``column``, ``value``, and of each cutoff three columns of user-days
        (`count_names`). Those of other users are to be added to them.
    """
    _, owners = different_users(events[Columns.user_id])
    times = _times(events)
    tables = []
    for name in columns:
        words = CodedText.of(events[name])
        counts = np.concatenate([_user_days(owners, words, (at - times - 1) // MICROS_PER_DAY) for at in cutoffs])
        seen = np.flatnonzero(counts.any(axis=0))
        keys = [pa.array([name] * len(seen), pa.string()), words.entries.take(pa.array(seen))]
        tables.append(pa.table([*keys, *counts[:, seen]], names=["column", "value", *count_names(len(cutoffs))]))
    return pa.concat_tables(tables)


def count_names(cutoffs: int) -> list[str]:
    """Names of the columns of user-days, as of so many cutoffs."""
    return [f"user_days_{place}_{window}" for place in range(cutoffs) for window in range(len(_EDGES))]


def traffic_of(counts: pa.Table, columns: Iterable[str], cutoffs: Sequence[int]) -> dict[str, ValueTraffic]:
    """The traffic of each column.

    Args:
        counts: What `counts_of` gives, added up over all users.
        columns: Which columns were counted.
        cutoffs: As of when, microseconds since 1970 UTC.
    """
    found = {}
    for name in columns:
        own = counts.filter(pc.equal(counts["column"], name))
        user_days = np.stack([own[each].to_numpy().astype(np.int32) for each in count_names(len(cutoffs))])
        values = one_array(own["value"].cast(pa.string()))
        found[name] = ValueTraffic(tuple(cutoffs), values, user_days.reshape(len(cutoffs), len(_EDGES), -1))
    return found


def most_rows_of_a_day(events: pa.Table) -> int:
    """How many rows the user with the most rows in one UTC day has there.

    Args:
        events: Columns `user_id` and `event_timestamp`.
    """
    if not len(events):
        return 0
    _, owners = different_users(events[Columns.user_id])
    days = _times(events) // MICROS_PER_DAY
    days -= days.min()
    return int(np.unique(owners * (days.max() + 1) + days, return_counts=True)[1].max())


def _times(events: pa.Table) -> Integers:
    return one_array(events[Columns.event_timestamp].cast(TIMESTAMP)).view(pa.int64()).to_numpy()


def _user_days(owners: Owners, words: CodedText, days_ago: Integers) -> Integers:
    """(3, K) user-days of each entry of `words`; null has none."""
    rows = np.flatnonzero((days_ago >= 0) & (days_ago < TRAFFIC_DAYS) & (words.codes > 0))
    count = len(words.entries)
    met = np.unique((owners[rows] * np.int64(TRAFFIC_DAYS) + days_ago[rows]) * count + words.codes[rows])
    window = np.searchsorted(_EDGES, met // count % TRAFFIC_DAYS, side="right")
    return np.bincount(window * count + met % count, minlength=len(_EDGES) * count).reshape(len(_EDGES), count)
