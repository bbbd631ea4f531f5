"""Which bucket a user belongs to: a hash of the id alone, the same on every machine and in every release.

An event log keeps all of a user's events in one bucket and finds them there again, so the hash must never change.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_SEED = np.uint64(0x9E3779B97F4A7C15)
_WORD = 8
#: Longer text is told apart by its length and its beginning: it is only a matter of spread.
_MOST_WORDS = 32
#: What stays of a little-endian word of which only the first 0, 1, ... 8 bytes belong to the text.
_MASKS = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], np.uint64)


def buckets_of(users: pa.Array | pa.ChunkedArray, count: int) -> npt.NDArray[np.int32]:
    """(N,) the bucket of each user, below `count`.

    Args:
        users: (N,) ids: whole numbers, text, or a dictionary of text; none is null.
        count: How many buckets there are; at most 2^31.
    """
    return buckets_of_hashes(hashes_of(users), count)


def buckets_of_hashes(hashes: Hashes, count: int) -> npt.NDArray[np.int32]:
    """(N,) the bucket of each hash, below `count`: its upper 32 bits as a fraction of all buckets."""
    return (((hashes >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)).astype(np.int32)


def hashes_of(users: pa.Array | pa.ChunkedArray) -> Hashes:
    """(N,) 64 well mixed bits of each user's id.

    Args:
        users: (N,) ids: whole numbers, text, or a dictionary of text; none is null.
    """
    if isinstance(users, pa.ChunkedArray):
        parts = [hashes_of(chunk) for chunk in users.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    if pa.types.is_dictionary(users.type):
        return hashes_of(users.dictionary)[users.indices.to_numpy()]
    if pa.types.is_integer(users.type):
        return _mixed(users.cast(pa.int64()).to_numpy().view(np.uint64) + _SEED)
    return _text_hashes(users.cast(pa.large_string()))


def _text_hashes(text: pa.LargeStringArray) -> Hashes:
    """Hashes of text, eight bytes of all values at a time."""
    offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
    starts, left = offsets[:-1], np.diff(offsets)
    words = _words_at_each_byte(text.buffers()[2])
    hashes = _mixed(left.astype(np.uint64) + _SEED)
    places = np.flatnonzero(left > 0)
    for _ in range(_MOST_WORDS):
        if not len(places):
            break
        word = words[starts[places]] & _MASKS[np.minimum(left[places], _WORD)]
        hashes[places] = _mixed(hashes[places] ^ word)
        starts, left = starts + _WORD, left - _WORD
        places = places[left[places] > 0]
    return hashes


def _words_at_each_byte(data: pa.Buffer | None) -> Hashes:
    """(B,) the eight bytes from each byte on, as one number; beyond the end they are 0."""
    text = b"" if data is None else data
    padded = np.zeros(len(text) + _WORD, np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    return np.lib.stride_tricks.as_strided(padded.view(np.uint8)[:_WORD].view("<u8"), (len(text) + 1,), (1,))


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014), in place: every bit depends on every bit."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
