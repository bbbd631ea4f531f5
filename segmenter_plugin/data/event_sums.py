"""What does not depend on the cutoff, computed once a block: running sums over rows, and when keys are next seen.

* A count or a sum over any range of rows is a difference of two running sums.
* ``next_seen[key]`` is when the same user is next seen with the same key (order, session, item, ...). Before a cutoff T
  an event is the last of its key exactly if that is at or after T (or never); so the number of distinct keys in
  [S, T) is the number of events there that are last of their key, for any S and T. What happens at or after T moves the
  value only among "at or after T", so nothing leaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.data.event_order import Integers, ordered, running

#: When a key is next seen that is not seen again; and where an event has no such key, which is the last of none.
NEVER, NO_KEY = np.iinfo(np.int64).max, np.iinfo(np.int64).min
#: Where there is no `session_id`, a pause longer than this starts a new session (the web's usual convention).
SESSION_GAP_MINUTES = 30


@dataclass(frozen=True)
class OfType:
    """The events of one type; M of them.

    Attributes:
        counts: (N + 1,) how many lie before each row.
        rows: (M,) their rows.
    """

    counts: npt.NDArray[np.int32]
    rows: Integers


@dataclass(frozen=True)
class Money:
    """Amounts of the M events of one type in whole minor units (cents).

    Attributes:
        sums: (M + 1,) sum before each of them; one without an amount adds nothing.
        known: (M + 1,) how many before each of them have an amount.
        amounts: (M,) the amounts, -1 where there is none.
    """

    sums: Integers
    known: npt.NDArray[np.int32]
    amounts: Integers


@dataclass(frozen=True)
class EventSums:
    """What every cutoff of a block shares.

    Attributes:
        types: By event type: those that the configuration names.
        money: By `PURCHASE` and `RETURN`; empty where there is no price.
        next_seen: Kind of key -> (N,) microseconds since 1970 UTC, `NEVER` or `NO_KEY`.
        pauses: (N,) how many of the rows before each one are followed by a pause that ends a session; whose pause
            ends with another user's event is counted too, so take differences within a user only.
    """

    types: dict[str, OfType]
    money: dict[str, Money]
    next_seen: dict[str, Integers]
    pauses: npt.NDArray[np.int32]

    @classmethod
    def of(cls, block: EventBlock, config: Config) -> Self:
        """Sum a block up."""
        types = {kind: _of_type(block, kind) for kind in _types(config)}
        money = {}
        if Columns.amount in block.numbers:
            money = {kind: _money(block, types[kind].rows, config) for kind in (PURCHASE, RETURN)}
        columns = key_columns(config).items()
        next_seen = {kind: _next_seen(block.owners, block.words[name].codes, block.times) for kind, name in columns}
        next_seen["order"] = _next_order(block, types[PURCHASE].rows)
        is_pause = np.diff(block.times) > SESSION_GAP_MINUTES * 60 * 1_000_000
        return cls(types, money, next_seen, running(is_pause))

    def minor_units(self, kind: str, starts: Integers, ends: Integers) -> Integers:
        """(U,) money of the events of `PURCHASE` or `RETURN` in ranges of rows, in whole minor units."""
        sums, counts = self.money[kind].sums, self.types[kind].counts
        return sums[counts[ends]] - sums[counts[starts]]


def key_columns(config: Config) -> dict[str, str]:
    """Kinds of keys that activity counts, but orders -> the column whose values they are."""
    mapped = config.events.columns.mapped
    sessions = {"session": Columns.session_id} if Columns.session_id in mapped else {}
    things = {"item": Columns.item_id}
    return sessions | things | {name: name for name in (Columns.category, Columns.brand) if name in mapped}


def _types(config: Config) -> list[str]:
    """Event types that some column or label asks for."""
    asked = [name for task in config.tasks for name in task.event_types]
    return list(dict.fromkeys([*config.events.types, PURCHASE, RETURN, *asked]))


def _of_type(block: EventBlock, kind: str) -> OfType:
    words = block.words[Columns.event_type]
    is_kind = words.codes == words.code(kind)
    return OfType(running(is_kind), np.flatnonzero(is_kind))


def _money(block: EventBlock, rows: Integers, config: Config) -> Money:
    amounts = block.numbers[Columns.amount][rows]
    is_known = ~np.isnan(amounts)
    scaled = np.where(is_known, amounts, 0.0) * 10.0**config.events.currency_digits
    whole = np.floor(scaled)
    # Halves go up, as in Spark. Not floor(x + .5): that sum is rounded itself, and lifts the number just below a half.
    minor = (whole + (scaled - whole >= 0.5)).astype(np.int64)
    return Money(running(minor), running(is_known), np.where(is_known, minor, -1))


def _next_order(block: EventBlock, purchases: Integers) -> Integers:
    """(N,) when the user buys next in the same order: by its id, else in the same session, else at the same moment."""
    times = block.times[purchases]
    # Moments as codes: equal times of one user lie side by side.
    keys = np.ones(len(purchases), np.int64)
    keys[1:] += np.cumsum(np.diff(times) != 0)
    above = len(purchases)
    for name in (Columns.session_id, Columns.order_id):
        if name in block.words:
            named = block.words[name].codes[purchases]
            keys = np.where(named > 0, named.astype(np.int64) + above, keys)
            above += len(block.words[name].entries)
    next_seen = np.full(len(block), NO_KEY)
    next_seen[purchases] = _next_seen(block.owners[purchases], keys, times)
    return next_seen


def _next_seen(owners: npt.NDArray[np.int32], keys: npt.NDArray[np.integer], times: Integers) -> Integers:
    """When the same user is next seen with the same key.

    Args:
        owners: (M,) users.
        keys: (M,) keys, of which 0 is none.
        times: (M,) ascending within each user.
    """
    order, is_same = ordered(owners, keys)
    later = np.flatnonzero(is_same)
    next_seen = np.full(len(order), NEVER)
    next_seen[order[later - 1]] = times[order[later]]
    next_seen[keys == 0] = NO_KEY
    return next_seen
