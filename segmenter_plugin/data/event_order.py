"""A total order of rows by whole numbers, without an object a row: sorts of packed 64 bit words.

`np.sort` of uint64 is vectorised and many times as fast as a stable argsort or a lexsort; so a key and the row's own
number are packed into one word, the words are sorted, and the row numbers are read off. A time that does not fit is cut
to its leading bits: rows which then share a word are told apart afterwards, like rows that do share their time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.data.coded_text import CodedText

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
#: Ranks of some rows (given by their numbers) in one column: whole numbers >= 0, equal for equal values.
Ranker = Callable[[Integers], Integers]

_WORD_BITS = 64


def ordered(major: npt.NDArray[np.integer], minor: npt.NDArray[np.integer]) -> tuple[Integers, Flags]:
    """Stable order of rows by two columns.

    Args:
        major: (N,) whole numbers >= 0.
        minor: (N,) whole numbers >= 0.

    Returns:
        (N,) row numbers in order; and (N,) whether the row there equals the one before it in both columns.
    """
    count = len(major)
    row_bits, minor_bits = _bits(count), _bits(_end(minor))
    if _bits(_end(major)) + minor_bits + row_bits > _WORD_BITS:
        order = np.lexsort((minor, major))
        same = (major[order[1:]] == major[order[:-1]]) & (minor[order[1:]] == minor[order[:-1]])
        return order, _after_first(same, count)
    words = major.astype(np.uint64)
    words <<= np.uint64(minor_bits)
    words |= minor.astype(np.uint64)
    words <<= np.uint64(row_bits)
    words |= np.arange(count, dtype=np.uint64)
    words.sort()
    order = (words & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    words >>= np.uint64(row_bits)
    return order, _after_first(words[1:] == words[:-1], count)


def order_events(owners: npt.NDArray[np.integer], times: Integers, rankers: Iterable[Ranker]) -> tuple[Integers, Flags]:
    """Order rows by user, time and then further columns.

    Args:
        owners: (N,) codes of users, >= 0.
        times: (N,) microseconds since 1970 UTC.
        rankers: The further columns; asked only for rows that all before them leave tied.

    Returns:
        (N,) row numbers in order; and (N,) whether the row there equals the one before it in everything.
    """
    since = times - (times.min() if len(times) else 0)
    rows, is_tied = _as_they_are(owners, since)
    if rows is not None:
        return _break_ties(rows, is_tied, rankers)
    spare = _WORD_BITS - _bits(_end(owners)) - _bits(len(owners))
    cut = max(0, _bits(_end(since)) - max(spare, 0))
    order, is_tied = ordered(owners, since >> cut)
    # Rows that are tied so far share the leading bits.
    exact: list[Ranker] = [lambda rows: since[rows] & ((1 << cut) - 1)] if cut else []
    return _break_ties(order, is_tied, [*exact, *rankers])


def _as_they_are(owners: npt.NDArray[np.integer], times: Integers) -> tuple[Integers | None, Flags]:
    """(N,) row numbers, None unless rows are in order; and (N,) whether a row equals the one before it."""
    is_owner = owners[1:] == owners[:-1]
    if ((owners[1:] < owners[:-1]) | (is_owner & (times[1:] < times[:-1]))).any():
        return None, is_owner
    return np.arange(len(owners)), _after_first(is_owner & (times[1:] == times[:-1]), len(owners))


def _break_ties(order: Integers, is_tied: Flags, rankers: Iterable[Ranker]) -> tuple[Integers, Flags]:
    """Order rows within runs of equals by one column after the other, until none is left tied.

    Args:
        order: (N,) row numbers in order; changed in place.
        is_tied: (N,) whether the row there equals the one before it so far; changed in place.
        rankers: Columns, the most significant first.
    """
    for rank in rankers:
        is_member = is_tied.copy()
        is_member[:-1] |= is_tied[1:]
        places = np.flatnonzero(is_member)
        if not len(places):
            break
        rows = order[places]
        runs = np.cumsum(~is_tied[places]) - 1
        within, is_same = ordered(runs, rank(rows))
        order[places], is_tied[places] = rows[within], is_same
    return order, is_tied


def ranker(column: pa.ChunkedArray | CodedText) -> Ranker:
    """Ranks of a column's values as Spark sorts them ascending: null first, text by its UTF-8 bytes, NaN last.

    Args:
        column: Text or numbers.
    """
    if isinstance(column, CodedText):
        return lambda rows: column.take(rows).ranks()
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return lambda rows: _number_ranks(column.take(pa.array(rows)))
    return lambda rows: CodedText.of(column.take(pa.array(rows))).ranks()


def _number_ranks(numbers: pa.ChunkedArray) -> Integers:
    ranks = _dense(pc.fill_null(numbers, 0).to_numpy()) + 1
    return np.where(pc.is_valid(numbers).to_numpy(), ranks, 0)


def running(values: npt.NDArray[np.bool_ | np.int64]) -> npt.NDArray[Any]:
    """(N + 1,) sums of the values before each place: of (N,) flags as int32, of numbers as int64."""
    sums = np.zeros(len(values) + 1, np.int32 if values.dtype == np.bool_ else np.int64)
    np.cumsum(values, dtype=sums.dtype, out=sums[1:])
    return sums


def _dense(values: npt.NDArray[np.generic]) -> Integers:
    """Ranks of values among the different ones."""
    return np.unique(values, return_inverse=True)[1]


def _end(values: npt.NDArray[np.integer]) -> int:
    """One above the largest value."""
    return int(values.max()) + 1 if len(values) else 0


def _bits(end: int) -> int:
    """Bits that hold the whole numbers below `end`."""
    return max(end - 1, 0).bit_length()


def _after_first(same: Flags, count: int) -> Flags:
    flags = np.zeros(count, np.bool_)
    flags[1:] = same
    return flags
