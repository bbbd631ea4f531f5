"""Model-free aggregates of what a user did before a cutoff T; all of it in ``[T - observation_days, T)``.

Days are 24 hours counted back from the cutoff, so a window of d days holds at most d active days. N stands for each of
`windows.activity_days` and for `observation_days`.

| column | meaning |
|---|---|
| ``event_count_Nd``, ``<type>_count_Nd`` | events in ``[T - N days, T)``, all or of one type |
| ``order_count_Nd`` | distinct orders with a purchase in the window (1) |
| ``session_count_Nd`` | distinct sessions with an event in the window (2) |
| ``active_day_count_Nd`` | days with an event |
| ``purchase_sum_Nd``, ``return_sum_Nd`` | money, both positive; 0 where nothing happened |
| ``recency_days``, ``<type>_recency_days`` | from the newest event (of that type) to T |
| ``tenure_days`` | from the oldest event of the observation window to T |
| ``gap_mean_days``, ``gap_std_days`` | between successive active days: mean, population deviation (3) |
| ``purchase_amount_mean``, ``_max``, ``_min``, ``_std`` | over purchases that have an amount; null without one (4) |
| ``order_amount_mean`` | ``purchase_sum`` by ``order_count``; null without an order |
| ``distinct_item_count``, ... | distinct values; null is none |
| ``<name>_known_count`` | events with a value in the further numeric column ``<name>`` (browse time, a rating) |
| ``<name>_mean`` | of these values; null without one (5) |
| ``<of>_trend_mean``, ``<of>_popularity_mean`` | of the values met in the last 28 days (`block_trends`) |

1. Purchases of one `order_id`; where that is absent, of one `session_id`; where that is too, of one moment.
2. By `session_id` where it is mapped (events without one belong to none); else a new session starts after a pause of
   more than `SESSION_GAP_MINUTES`.
3. Null with fewer than two active days.
4. The deviation is that of the population; amounts are compared with the whole minor unit below their mean, so that
   squares stay small, and equal amounts deviate by exactly 0.
5. Values are added in the block's order, which is total, so the same events give the same bits.

Money is summed in whole minor units (cents) and gaps in whole days, so that no order of summation changes a bit;
divisions are done in the order that Spark does them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.block_trends import trend_columns
from segmenter_plugin.data.event_block import EventBlock, places_of
from segmenter_plugin.data.event_order import Flags, Integers, running
from segmenter_plugin.data.event_sums import NEVER, EventSums, OfType
from segmenter_plugin.data.value_traffic import ValueTraffic
from segmenter_plugin.schemas import activity_fields

Places = npt.NDArray[np.signedinteger]


@dataclass(frozen=True)
class Windows:
    """Ranges of rows of the users who have an event in the observation window.

    Attributes:
        cutoff: Microseconds since 1970 UTC.
        starts: Days of a window -> (U,) first row in it.
        ends: (U,) first row at or after the cutoff.
        observation: Days of the longest window; no range of it is empty.
    """

    cutoff: int
    starts: dict[int, Integers]
    ends: Integers
    observation: int

    @property
    def first(self) -> Integers:
        """(U,) first row in the observation window."""
        return self.starts[self.observation]


def activity_columns(
    block: EventBlock, sums: EventSums, windows: Windows, config: Config, traffic: Mapping[str, ValueTraffic]
) -> dict[str, pa.Array]:
    """Aggregates of each user's observation window.

    Args:
        block: The events.
        sums: Of the block.
        windows: Ranges of `windows.activity_days` and `windows.observation_days`.
        config: Which event types and columns there are.
        traffic: What all users met, of each of `windows.trend_columns`.

    Returns:
        `schemas.activity_fields`, (U,) each.
    """
    days = _Days.of(block, windows.cutoff)
    last = {kind: running(later >= windows.cutoff) for kind, later in sums.next_seen.items()}
    columns = _counts(sums, windows, days=days, last=last, config=config)
    columns |= _money(sums, windows, config) | _ages(block, sums, windows, config) | days.gaps(windows)
    columns |= _means(block, windows, config)
    columns |= trend_columns(block, windows.first, windows.ends, windows.cutoff, traffic)
    for kind, totals in last.items():
        if kind not in ("order", "session"):
            columns[f"distinct_{kind}_count"] = pa.array(_between(totals, windows.first, windows.ends))
    if Columns.price in config.events.columns.mapped:
        columns["order_amount_mean"] = _order_mean(columns, windows.observation, config)
    return {field.name: columns[field.name] for field in activity_fields(config)}


@dataclass(frozen=True)
class _Days:
    """Steps from each row to the next one in days; a day is 24 hours counted back from the cutoff.

    Attributes:
        numbers: (N,) the day of each row: 0 is the last before the cutoff.
        steps: (N,) how many of the rows before lie on another day than the row after them.
        squares: (N,) sum of the squares of those steps, in days.
    """

    numbers: Integers
    steps: npt.NDArray[np.int32]
    squares: Integers

    @classmethod
    def of(cls, block: EventBlock, cutoff: int) -> _Days:
        numbers = (cutoff - block.times - 1) // MICROS_PER_DAY
        gaps = numbers[:-1] - numbers[1:]
        return cls(numbers, running(gaps != 0), running(gaps * gaps))

    def gaps(self, windows: Windows) -> dict[str, pa.Array]:
        """Mean and population deviation of the days between active days; null with fewer than two of these."""
        last = windows.ends - 1
        number = _between(self.steps, windows.first, last)
        total = self.numbers[windows.first] - self.numbers[last]
        squares = self.squares[last] - self.squares[windows.first]
        return {
            "gap_mean_days": _ratio(total, number),
            "gap_std_days": _ratio(np.sqrt(number * squares - total * total), number),
        }


def _counts(
    sums: EventSums, windows: Windows, *, days: _Days, last: Mapping[str, npt.NDArray[np.int32]], config: Config
) -> dict[str, pa.Array]:
    """How many of what lie in each window."""
    totals = {kind: last[kind] for kind in ("order", "session") if kind in last}
    totals |= {kind: sums.types[kind].counts for kind in config.events.types}
    breaks = {"active_day": days.steps} | ({} if "session" in last else {"session": sums.pauses})
    counts: dict[str, pa.Array] = {}
    for length, starts in windows.starts.items():
        counts[f"event_count_{length}d"] = pa.array(windows.ends - starts)
    for kind, total in totals.items():
        at_end = total[windows.ends]
        for length, starts in windows.starts.items():
            counts[f"{kind}_count_{length}d"] = pa.array((at_end - total[starts]).astype(np.int64))
    for kind, total in breaks.items():
        # Into how many runs breaks part a window: one more than there are breaks inside it.
        last_row = windows.ends - 1
        at_last = total[last_row] + 1
        for length, starts in windows.starts.items():
            runs = np.where(starts > last_row, 0, at_last - total[np.minimum(starts, last_row)])
            counts[f"{kind}_count_{length}d"] = pa.array(runs.astype(np.int64))
    return counts


def _between(totals: npt.NDArray[np.signedinteger], starts: Places, ends: Places) -> Integers:
    return (totals[ends] - totals[starts]).astype(np.int64)


def _money(sums: EventSums, windows: Windows, config: Config) -> dict[str, pa.Array]:
    if not sums.money:
        return {}
    scale = 10.0**config.events.currency_digits
    columns: dict[str, pa.Array] = {}
    for kind in (PURCHASE, RETURN):
        for length, starts in windows.starts.items() if kind in config.events.types else ():
            columns[f"{kind}_sum_{length}d"] = pa.array(sums.minor_units(kind, starts, windows.ends) / scale)
    return columns | _prices(sums, windows, scale)


def _prices(sums: EventSums, windows: Windows, scale: float) -> dict[str, pa.Array]:
    """What the purchases of the observation window cost."""
    counts, bought = sums.types[PURCHASE].counts, sums.money[PURCHASE]
    first, last = counts[windows.first], counts[windows.ends]
    number, total = _between(bought.known, first, last), _between(bought.sums, first, last)
    absent = number == 0
    largest = _folded(np.maximum, bought.amounts, first, last)
    smallest = _folded(np.minimum, np.where(bought.amounts < 0, NEVER, bought.amounts), first, last)
    return {
        "purchase_amount_mean": _ratio(total, number, scale),
        "purchase_amount_max": pa.array(largest / scale, mask=absent),
        "purchase_amount_min": pa.array(smallest / scale, mask=absent),
        "purchase_amount_std": _ratio(
            _spread(bought.amounts, first, last, total // np.maximum(number, 1)), number, scale
        ),
    }


def _folded(fold: np.ufunc, amounts: Integers, starts: Places, ends: Places) -> Integers:
    """(U,) the largest or smallest amount of each range, 0 of one that is empty."""
    has_any = ends > starts
    bounds = np.stack([starts[has_any], ends[has_any]], axis=1).ravel()
    folded = np.zeros(len(starts), np.int64)
    if len(bounds):
        # One more amount than there are: the last range may end after the last one.
        folded[has_any] = fold.reduceat(np.append(amounts, 0), bounds)[::2]
    return folded


def _spread(amounts: Integers, starts: Places, ends: Places, centers: Integers) -> npt.NDArray[np.float64]:
    """(U,) number of the known amounts in each range times their deviation.

    Exact as long as it is below 2^26: it is the root of a whole number then, whatever the centers are.
    """
    places, offsets = places_of(starts.astype(np.int64), ends.astype(np.int64))
    user = np.repeat(np.arange(len(starts)), np.diff(offsets))
    is_known = amounts[places] >= 0
    user, away = user[is_known], (amounts[places][is_known] - centers[user[is_known]]).astype(np.float64)
    number = np.bincount(user, minlength=len(starts))
    total = np.bincount(user, away, len(starts))
    return np.sqrt(number * np.bincount(user, away * away, len(starts)) - total * total)


def _means(block: EventBlock, windows: Windows, config: Config) -> dict[str, pa.Array]:
    """Of each further numeric column: how many values the observation window has, and their mean."""
    columns: dict[str, pa.Array] = {}
    if not config.events.columns.numeric:
        return columns
    places, offsets = places_of(windows.first, windows.ends)
    users = len(windows.ends)
    user = np.repeat(np.arange(users), np.diff(offsets))
    for name in config.events.columns.numeric:
        values = block.numbers[name][places]
        is_known = ~np.isnan(values)
        number = np.bincount(user[is_known], minlength=users)
        columns[f"{name}_known_count"] = pa.array(number)
        columns[f"{name}_mean"] = _ratio(np.bincount(user[is_known], values[is_known], users), number)
    return columns


def _ages(block: EventBlock, sums: EventSums, windows: Windows, config: Config) -> dict[str, pa.Array]:
    """Days from the newest event, of each type and of all, and from the oldest one, to the cutoff."""

    def age(rows: Integers) -> npt.NDArray[np.float64]:
        return (windows.cutoff - block.times[rows]) / float(MICROS_PER_DAY)

    columns = {"recency_days": pa.array(age(windows.ends - 1)), "tenure_days": pa.array(age(windows.first))}
    for kind in config.events.types:
        newest, has_none = _newest(sums.types[kind], windows)
        columns[f"{kind}_recency_days"] = pa.array(age(newest), mask=has_none)
    return columns


def _newest(events: OfType, windows: Windows) -> tuple[Integers, Flags]:
    """(U,) row of the newest of these events in the observation window, and whether there is none."""
    numbers = events.counts[windows.ends]
    has_none = numbers == events.counts[windows.first]
    return np.append(events.rows, 0)[np.where(has_none, 0, numbers - 1)], has_none


def _order_mean(columns: Mapping[str, pa.Array], length: int, config: Config) -> pa.Array:
    orders = columns[f"order_count_{length}d"].to_numpy()
    if PURCHASE not in config.events.types:
        return pa.nulls(len(orders), pa.float64())
    return _ratio(columns[f"purchase_sum_{length}d"].to_numpy(), orders)


def _ratio(total: npt.NDArray[np.number], number: Integers, *divisors: float) -> pa.Array:
    """A quotient, divided further by each of `divisors` in turn; null where the number is 0."""
    quotient = total / np.maximum(number, 1)
    for divisor in divisors:
        quotient = quotient / divisor
    return pa.array(quotient, mask=number == 0)
