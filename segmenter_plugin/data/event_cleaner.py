"""Raw events to typed ones, a batch of columns at a time; what is malformed is refused with its reason.

A row is refused for the first reason, in the order of `REASONS`, that applies. An event without an item is fine (a
campaign receipt has none). A purchase of negative quantity is a return where `[events.types]` has returns.

What becomes of a row depends on that row alone, so batches of any size give the same events. Duplicates are left in.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segmenter_plugin.columns import RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data import event_reasons as reasons
from segmenter_plugin.data.event_block import event_columns, microseconds
from segmenter_plugin.data.event_numbers import Numbers, round_half_up
from segmenter_plugin.data.event_reasons import REASONS, Flags, Refusals, null_flags
from segmenter_plugin.data.event_typing import TYPE_MISSING, TYPE_UNKNOWN, TypedRows, check_columns
from segmenter_plugin.schemas import TIMESTAMP, numeric_columns

__all__ = ["REASONS", "CleanedRows", "EventCleaner"]

#: Upper bound of event times where `[events] latest_timestamp` gives none; what lies beyond is a broken clock.
LATEST_TIMESTAMP = datetime(2100, 1, 1, tzinfo=UTC)
#: Upper bound of one event's money and quantity; sums of integer minor units stay within 64 bits.
LARGEST_AMOUNT = 1e12


@dataclass(frozen=True)
class CleanedRows:
    """What becomes of N rows of the owner's, of which R are refused.

    Attributes:
        events: (N - R,) columns of `event_columns`, in the order of the rows that came in: `user_id` string or int64,
            `event_timestamp` as `TIMESTAMP`, text as string or dictionary<int32, string>, numbers as float64.
        refused: (R,) places of refused rows, ascending.
        reasons: (R,) one of `REASONS` each.
        unreadable: Further numeric column -> how many values of kept rows are text that is no number; they are null.
    """

    events: pa.Table
    refused: npt.NDArray[np.int64]
    reasons: pa.StringArray
    unreadable: dict[str, int]


@dataclass(frozen=True)
class EventCleaner:
    """Cleans rows of one configuration; `of` makes it where the columns have been checked.

    Attributes:
        config: `[events]` says what the columns mean.
    """

    config: Config

    @classmethod
    def of(cls, schema: pa.Schema, config: Config) -> Self:
        """A cleaner of rows of some schema; batches may have any other that would pass, too.

        Raises:
            EventsError: A mapped column is missing or of a type that cannot hold it; times are naive and no zone is
                named, or numbers and no unit is named.
        """
        check_columns(schema, config)
        return cls(config)

    @property
    def columns(self) -> list[str]:
        """The owner's columns that are needed."""
        return list(dict.fromkeys(self.config.events.columns.mapped.values()))

    def clean(self, rows: pa.Table | pa.RecordBatch) -> CleanedRows:
        """Type and judge some rows.

        Args:
            rows: (N,) at least the columns of `columns`.

        Raises:
            EventsError: They have columns that `of` would refuse.
        """
        check_columns(rows.schema, self.config)
        typed = TypedRows.of(rows, self.config)
        refusals = _judged(typed, self.config)
        events, kept = _events(typed, self.config), refusals.kept
        unreadable = {
            name: _count(typed.numbers[name].is_unreadable, kept) for name in self.config.events.columns.numeric
        }
        if kept is not None:
            events = events.filter(pa.array(kept))
        return CleanedRows(events, refusals.places, refusals.reasons, unreadable)


def _judged(typed: TypedRows, config: Config) -> Refusals:
    """Which rows are refused; what is asked of a row that was refused before does not matter."""
    refusals, times, codes = Refusals(len(typed)), typed.times, typed.types.codes
    earliest = microseconds(config.time(config.events.earliest_timestamp))
    latest = microseconds(config.time(config.events.latest_timestamp or LATEST_TIMESTAMP))
    refusals.refuse(reasons.USER_ID_MISSING, null_flags(typed.users))
    refusals.refuse(reasons.EVENT_TIMESTAMP_MISSING, times.is_missing)
    refusals.refuse(reasons.EVENT_TIMESTAMP_NAIVE, times.is_naive)
    # An unreadable time is held as 1970, which may be absurd too.
    refusals.refuse(reasons.EVENT_TIMESTAMP_UNPARSEABLE, times.is_unreadable)
    refusals.refuse(reasons.EVENT_TIMESTAMP_ABSURD, times.is_out_of_range)
    refusals.refuse(reasons.EVENT_TIMESTAMP_ABSURD, (times.instants < earliest) | (times.instants > latest))
    refusals.refuse(reasons.EVENT_TYPE_MISSING, codes == TYPE_MISSING)
    refusals.refuse(reasons.EVENT_TYPE_UNKNOWN, codes == TYPE_UNKNOWN)
    _judge_numbers(refusals, typed, config)
    return refusals


def _judge_numbers(refusals: Refusals, typed: TypedRows, config: Config) -> None:
    quantity, price = typed.numbers.get(Columns.quantity), typed.numbers.get(Columns.price)
    if quantity is not None:
        refusals.refuse(reasons.QUANTITY_UNPARSEABLE, quantity.is_unreadable)
        refusals.refuse(reasons.QUANTITY_ABSURD, quantity.beyond(LARGEST_AMOUNT))
        refusals.refuse(reasons.QUANTITY_NEGATIVE, _taken(quantity, typed, config))
    if price is not None:
        refusals.refuse(reasons.PRICE_UNPARSEABLE, price.is_unreadable)
        amount = Numbers(_amount(typed, config), price.is_missing, price.is_unreadable)
        refusals.refuse(reasons.PRICE_ABSURD, price.beyond(sys.float_info.max) | amount.beyond(LARGEST_AMOUNT))
        refusals.refuse(reasons.PRICE_NEGATIVE, _taken(price, typed, config))


def _taken(numbers: Numbers, typed: TypedRows, config: Config) -> Flags | None:
    """(N,) where a number is negative though the row takes no money back."""
    found = numbers.values < 0
    return found & ~typed.is_refund(config) if found.any() else None


def _amount(typed: TypedRows, config: Config) -> npt.NDArray[np.float64]:
    """(N,) money of the event, sign as the owner has it; NaN where there is no price."""
    price, quantity = typed.numbers[Columns.price], typed.numbers.get(Columns.quantity)
    if quantity is None or config.events.price_is == "line":
        return price.values
    count = np.abs(quantity.values)
    if quantity.is_missing is not None:
        count[quantity.is_missing] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        return price.values * count


def _events(typed: TypedRows, config: Config) -> pa.Table:
    """(N,) columns of `event_columns`; a refund's numbers are positive, its type says the direction."""
    wanted = numeric_columns(config)
    columns = {
        Columns.user_id: typed.users,
        Columns.event_timestamp: pa.array(typed.times.instants).view(TIMESTAMP),
        Columns.event_type: _type_column(typed, config),
        **typed.texts,
        **{name: _number_column(typed.numbers[name].values) for name in config.events.columns.numeric},
    }
    if Columns.amount in wanted:
        amount = round_half_up(np.abs(_amount(typed, config)), config.events.currency_digits)
        columns[Columns.amount] = _number_column(amount)
    if Columns.quantity in wanted:
        columns[Columns.quantity] = _number_column(np.abs(typed.numbers[Columns.quantity].values))
    return pa.table({name: columns[name] for name in event_columns(config)})


def _type_column(typed: TypedRows, config: Config) -> pa.DictionaryArray:
    names, codes, is_refund = typed.types.names, typed.types.codes, typed.is_refund(config)
    if RETURN in names and is_refund.any():
        codes = np.where(is_refund, np.int32(names.index(RETURN)), codes)
    # Rows of no type of ours are refused; until they are gone they need a code that means something.
    return pa.DictionaryArray.from_arrays(pa.array(np.maximum(codes, 0)), pa.array(names, pa.string()))


def _number_column(values: npt.NDArray[np.float64]) -> pa.DoubleArray:
    """Null where there is no finite number."""
    is_absent = ~np.isfinite(values)
    return pa.array(values, mask=is_absent) if is_absent.any() else pa.array(values)


def _count(flags: Flags | None, among: Flags | None) -> int:
    return 0 if flags is None else int(np.count_nonzero(flags if among is None else flags & among))
