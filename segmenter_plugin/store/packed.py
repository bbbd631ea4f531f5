"""The packed layout in Redis, ours: one string for each entity and view, so that a lookup is one ``MGET``.

Key: the serialised entity key, the project, a zero byte, the view's name. Value, numbers little-endian::

    "seg" 0x01                   mark and version
    n                            uint32: number of features
    end                          uint32: end of the event_timestamp
    n of (field, end)             4 bytes of murmur hash as in Feast's layout; uint32: end of the cell
    cells                        ``Value`` messages as in Feast's layout; ends count from here
    event_timestamp              ``Timestamp`` message
    length                       1 byte: of the event_timestamp

The timestamp comes last, where ``GETRANGE key -18 -1`` finds it whatever the row holds: a writer needs no more.
A field that a row lacks, as it was written before the view had that feature, reads as a missing value.

What it costs: no other reader (Feast's own store, the Java and Go servers, ``feast precompute``) knows these keys, and
a row is always written whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.resp import Part, byte_lengths
from segmenter_plugin.store.wire import encode_times

MARK = b"seg\x01"

#: Bytes from the end that hold any timestamp: seconds of ten bytes and nanoseconds of five, two tags, and the length.
TAIL = 18

#: Cells of a row in the order asked, and last its event_timestamp; all None where there is no row.
Row = tuple[bytes | None, ...]

_HEAD = struct.Struct("<4sII")
_FIELD = struct.Struct("<4sI")
_KEPT = 1_000


def pack_rows(cells: Mapping[bytes, pa.Array], event_times: np.ndarray) -> tuple[Part, ...]:
    """Values of N rows, as parts to be written one after another.

    Args:
        cells: For each field (N,) ``binary`` of ``Value`` messages.
        event_times: (N,) int64 nanoseconds since the epoch.
    """
    times = encode_times(event_times)
    time_lengths = byte_lengths(times)
    lengths = [*map(byte_lengths, cells.values()), time_lengths]
    ends = np.cumsum(np.stack(lengths, axis=1), axis=1, dtype=np.int64)  # (N, n + 1)
    head = np.empty((len(times), 3 + 2 * len(cells)), dtype="<u4")
    head[:, 0] = int.from_bytes(MARK, "little")
    head[:, 1] = len(cells)
    head[:, 2] = ends[:, -1]
    head[:, 3::2] = [int.from_bytes(field, "little") for field in cells]
    head[:, 4::2] = ends[:, :-1]
    return (_fixed(head.view(np.uint8)), *cells.values(), times, _fixed(time_lengths.astype(np.uint8)[:, None]))


def _fixed(rows: np.ndarray) -> pa.Array:
    """(N,) ``binary`` of (N, size) uint8."""
    count, size = rows.shape
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(size)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(ends), pa.py_buffer(rows)])


def time_of(tail: bytes) -> bytes | None:
    """The ``Timestamp`` message within the last `TAIL` bytes of a row; None where there is no row."""
    return tail[-1 - tail[-1] : -1] if tail else None


class RowReader(dict[bytes, Callable[[bytes], Row]]):
    """Takes the asked fields out of rows.

    Rows whose cells have the same lengths start with the same bytes; how to cut those is worked out once and kept here.

    Args:
        fields: In the order in which cells are wanted.
    """

    def __init__(self, fields: Sequence[bytes]) -> None:
        super().__init__()
        self._fields = tuple(fields)
        self._missing: Row = (None,) * (len(fields) + 1)

    def read(self, values: Sequence[bytes | None]) -> list[Row]:
        """Cells of rows.

        Args:
            values: (N,) as ``MGET`` answers.

        Raises:
            StoreError: A value is no packed row, or its length is wrong.
        """
        first = next((value for value in values if value is not None), None)
        if first is None:
            return [self._missing] * len(values)
        if len(self) > _KEPT:
            self.clear()
        size, missing = _head_size(first), self._missing
        try:
            return [missing if value is None else self[value[:size]](value) for value in values]
        except struct.error as error:
            raise _damaged(str(error)) from error

    def __missing__(self, head: bytes) -> Callable[[bytes], Row]:
        if _head_size(head) != len(head):  # a row of another number of features than the first one
            return lambda value: self._cutter(value[: _head_size(value)])(value)
        self[head] = cutter = self._cutter(head)
        return cutter

    def _cutter(self, head: bytes) -> Callable[[bytes], Row]:
        stored = [field for field, _ in _table(head)]
        unpack = _unpacker(head, frozenset(self._fields))
        given = [field for field in stored if field in self._fields]
        if given == list(self._fields):
            return unpack
        places = {field: place for place, field in enumerate(given)}
        order = [places.get(field) for field in self._fields]

        def cut(value: bytes) -> Row:
            *cells, time = unpack(value)
            return (*(None if place is None else cells[place] for place in order), time)

        return cut


@lru_cache(maxsize=256)
def row_reader(fields: tuple[bytes, ...]) -> RowReader:
    """The reader of these fields, which remembers the rows that it has met."""
    return RowReader(fields)


def _head_size(value: bytes) -> int:
    if len(value) < _HEAD.size or value[:4] != MARK:
        raise _damaged(f"it starts with {value[:12]!r}")
    return _HEAD.size + _FIELD.size * int.from_bytes(value[4:8], "little")


def _table(head: bytes) -> list[tuple[bytes, int]]:
    """Field and end of each cell."""
    try:
        return list(_FIELD.iter_unpack(head[_HEAD.size :]))
    except struct.error as error:
        raise _damaged(str(error)) from error


def _unpacker(head: bytes, fields: frozenset[bytes]) -> Callable[[bytes], tuple[bytes, ...]]:
    """Cuts a row with that head into the given ones of its cells, in stored order, and its timestamp."""
    table = _table(head)
    time_end = int.from_bytes(head[8:12], "little")
    ends = [0, *(end for _, end in table), time_end]
    lengths = [stop - start for start, stop in pairwise(ends)]
    if min(lengths) < 0:
        raise _damaged("its cells overlap")
    cells = (f"{size}{'s' if field in fields else 'x'}" for (field, _), size in zip(table, lengths[:-1], strict=True))
    return struct.Struct(f"<{len(head)}x{''.join(cells)}{lengths[-1]}sx").unpack


def _damaged(reason: str) -> StoreError:
    return StoreError(
        f"a value in Redis is no packed row: {reason}.",
        hint="materialise the view again; if that does not help, another program writes to these keys: give Feast a "
        "database (db=…) of its own.",
    )
