"""Which rows carry an `event_id` that an earlier row of the same user has.

Numbering ids by their text takes many times as long as mixing them to 64 bits, and nearly all of them occur once. So
rows are compared by such bits first, and by text only where these are equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.data.coded_text import CodedText, one_array
from segmenter_plugin.data.event_order import Integers, ordered
from segmenter_plugin.data.user_buckets import hashes_of

Bits = npt.NDArray[np.uint64]

_WORD = 8
#: Odd numbers without a pattern: a user's number, and each word of an id, is multiplied by another one.
_FACTORS = np.random.default_rng(7).integers(0, 1 << 64, 9, np.uint64) | np.uint64(1)


def later_namesakes(owners: npt.NDArray[np.int32], ids: pa.ChunkedArray, rows: Integers) -> Integers:
    """Places of the rows with an id that an earlier row of the same user has, in no particular order.

    Args:
        owners: (N,) the user of each row.
        ids: (M,) text or a dictionary of text; null is none.
        rows: (N,) which of them is the id of each row.
    """
    text = one_array(ids.cast(pa.string()))
    named = np.flatnonzero(pc.is_valid(text).to_numpy(zero_copy_only=False)[rows]) if text.null_count else None
    owners, rows = (owners, rows) if named is None else (owners[named], rows[named])
    alike = _alike(_bits(text)[rows] + owners.astype(np.uint64) * _FACTORS[-1])
    codes = CodedText.of(pa.chunked_array([text.take(pa.array(rows[alike]))])).codes
    order, is_same = ordered(owners[alike], codes)
    # The order is stable: what equals its predecessor is not the first.
    later = alike[order[is_same]]
    return later if named is None else named[later]


def _alike(values: Bits) -> Integers:
    """Places of the values that occur more than once, ascending."""
    in_order = np.sort(values)
    shared = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(shared):
        return np.zeros(0, np.int64)
    found = np.minimum(np.searchsorted(shared, values), len(shared) - 1)
    return np.flatnonzero(shared[found] == values)


def _bits(text: pa.StringArray) -> Bits:
    """(M,) the same 64 bits for the same text, and hardly ever for another one."""
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    width = int(offsets[1] - offsets[0]) if len(text) else 0
    words, rest = divmod(width, _WORD)
    if rest or not 0 < words < len(_FACTORS) or (np.diff(offsets) != width).any():
        return hashes_of(pc.fill_null(text, ""))
    # Ids are mostly of one width, of whole words often; then each word is one strided column.
    bits = np.zeros(len(text), np.uint64)
    for word in range(words):
        start = int(offsets[0]) + word * _WORD
        column: Bits = np.ndarray(len(text), "<u8", text.buffers()[2], start, (width,))
        bits += column * _FACTORS[word]
    return bits
