"""Each user's newest row among many, in as little memory as the answer needs.

Rows come batch by batch with their keys, times and places in the source. What stays is sorted by key, one row a key;
rows that came since wait in a buffer and are merged in together, so that a long history of few users costs time but no
memory. A user costs 36 bytes (28 where the key is one integer), and at most 64 while rows are being merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import mmh3
import numpy as np
import pyarrow as pa
from feast import ValueType

from segmenter_plugin.store.keys import encode_keys

#: Stands for a time that is missing; older than any other.
MISSING = np.iinfo(np.int64).min

#: Rows that wait at least, and per row that stays: merging moves all that stays.
_WAITING_ROWS = 65_536
_WAITING_SHARE = 32

#: Elements that are moved at once.
_BLOCK = 1 << 18

#: Columns behind the words of a code.
_TIMES_AND_ORDINAL = 3

_WHOLE_NUMBERS = (ValueType.INT32, ValueType.INT64)


def key_codes(batch: pa.RecordBatch, join_keys: dict[str, ValueType]) -> np.ndarray:
    """What tells users apart, of one size a row: W = 1 or 2 words.

    Args:
        batch: The join keys, without nulls.
        join_keys: Their Feast types.

    Returns:
        (N, 1) int64 where the key is one integer, else (N, 2) uint64 with 128-bit digests of the serialised keys (among
        a billion users two share one with a probability of 1e-21).
    """
    if len(join_keys) == 1 and next(iter(join_keys.values())) in _WHOLE_NUMBERS:
        numbers = batch.column(next(iter(join_keys))).cast(pa.int64())
        return numbers.to_numpy(zero_copy_only=False)[:, None]
    digests = map(mmh3.mmh3_x64_128_digest, encode_keys(batch, join_keys).to_pylist())
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


@dataclass(frozen=True)
class Chosen:
    """One row a user.

    Args:
        ordinals: (U,) places in the source, ascending.
        event_us: (U,) int64 event timestamps, microseconds since the epoch.
    """

    ordinals: np.ndarray
    event_us: np.ndarray

    def __len__(self) -> int:
        return len(self.ordinals)


class Newest:
    """Keeps, of the rows of each key, the one with the greatest event, then created timestamp; of equals the last.

    Args:
        rows: How many rows there will be at most.
        waiting_rows: Rows that are merged in together, at least.
    """

    def __init__(self, rows: int, waiting_rows: int = _WAITING_ROWS) -> None:
        self._capacity = rows
        self._ordinal_type = np.dtype(np.uint32 if rows < 2**32 else np.int64)
        self._waiting_rows = waiting_rows
        self._waiting: list[list[np.ndarray]] = []
        self._waiting_count = 0
        #: Words of the codes, then event and created microseconds and ordinals; the first `_count` of each, sorted by
        #: code. There is room for all rows: memory that is never written costs nothing, and growing moves nothing.
        self._kept: list[np.ndarray] = []
        self._count = 0

    def add(self, codes: np.ndarray, event_us: np.ndarray, created_us: np.ndarray, ordinals: np.ndarray) -> None:
        """Take in rows.

        Args:
            codes: (N, W) from `key_codes`; of one kind in all calls.
            event_us: (N,) int64.
            created_us: (N,) int64, `MISSING` where there is none.
            ordinals: (N,) ascending, above those of all earlier calls.
        """
        if not len(codes):
            return
        self._waiting.append([*codes.T, event_us, created_us, ordinals.astype(self._ordinal_type)])
        self._waiting_count += len(codes)
        if self._waiting_count >= max(self._waiting_rows, self._count // _WAITING_SHARE):
            self._merge()

    def finish(self) -> Chosen:
        """The rows that stay; this object is empty afterwards."""
        self._merge()
        if not self._count:
            return Chosen(np.empty(0, self._ordinal_type), np.empty(0, np.int64))
        del self._kept[:-_TIMES_AND_ORDINAL]  # the codes go before the sort takes room of its own
        event_us, _, ordinals = (column[: self._count] for column in self._kept)
        order = np.argsort(ordinals)
        chosen = Chosen(ordinals[order], event_us[order])
        self._kept, self._count = [], 0
        return chosen

    def _merge(self) -> None:
        if not self._waiting:
            return
        waiting = [np.concatenate(columns) for columns in zip(*self._waiting, strict=True)]
        self._waiting, self._waiting_count = [], 0
        rows = _one_a_key(waiting)
        if not self._kept:
            self._kept = [np.empty(self._capacity, column.dtype) for column in rows]
        place, known = _find([column[: self._count] for column in self._kept], rows)
        _replace(self._kept, place[known], [column[known] for column in rows])
        fresh = ~known
        for kept, column in zip(self._kept, rows, strict=True):
            _insert(kept, self._count, place[fresh], column[fresh])
        self._count += int(fresh.sum())


def _one_a_key(rows: list[np.ndarray]) -> list[np.ndarray]:
    """The newest row of each code, sorted by code. The sort is stable, so that of equals the last stays."""
    *codes, event_us, created_us, _ = rows
    order = np.lexsort((created_us, event_us, *reversed(codes)))
    last = np.zeros(len(order), dtype=bool)
    last[-1:] = True
    for word in codes:
        last[:-1] |= word[order[1:]] != word[order[:-1]]
    order = order[last]
    return [column[order] for column in rows]


def _find(kept: list[np.ndarray], rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where each code is or would be among the kept ones: (M,) places, and (M,) bool, whether it is there."""
    first, second = kept[0], kept[:-_TIMES_AND_ORDINAL][-1]
    wanted_first, wanted_second = rows[0], rows[:-_TIMES_AND_ORDINAL][-1]
    place = np.searchsorted(first, wanted_first)
    if not len(first):
        return place, np.zeros(len(place), dtype=bool)
    while True:
        at = np.minimum(place, len(first) - 1)
        alike = (place < len(first)) & (first[at] == wanted_first)
        # Codes that share their first word are as good as never there, but then they stand side by side.
        passed = alike & (second[at] < wanted_second)
        if not passed.any():
            return place, alike & (second[at] == wanted_second)
        place = place + passed


def _replace(kept: list[np.ndarray], place: np.ndarray, rows: list[np.ndarray]) -> None:
    """Put later rows in the places of the same codes where they are not older."""
    old_event, old_created, _ = (column[place] for column in kept[-_TIMES_AND_ORDINAL:])
    event, created, _ = rows[-_TIMES_AND_ORDINAL:]
    newer = (event > old_event) | ((event == old_event) & (created >= old_created))
    for column, values in zip(kept, rows, strict=True):
        column[place[newer]] = values[newer]


def _insert(column: np.ndarray, count: int, place: np.ndarray, values: np.ndarray) -> None:
    """Insert before the given places of the first `count` elements, moving block by block from the end.

    Args:
        column: Has room for what comes.
        count: Elements that there are.
        place: (M,) ascending.
        values: (M,).
    """
    landing = place + np.arange(len(place))
    for end in range(count + len(place), 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        first, last = np.searchsorted(landing, [start, end])
        # What stood from here on has moved already, so nothing is overwritten before it was read.
        column[start:end] = np.insert(
            column[start - first : end - last], place[first:last] - (start - first), values[first:last]
        )
        if first == 0:
            return
