"""Which users are kept out of training: decided by a hash, so the same user falls on the same side at every cutoff."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.errors import SchemaError

#: FNV-1a (Fowler, Noll, Vo) over the bytes of an id.
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


def validation_users(user_ids: pa.Array, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each user belongs to the validation side.

    The answer depends on the id and the seed alone: not on the other users, the order, or the cutoff.

    Args:
        user_ids: Strings or int64, (N,), without nulls.
        share: Expected share of validation users, in [0, 1).
        seed: Another seed draws another split.

    Returns:
        (N,) booleans, True for validation.

    Raises:
        SchemaError: The ids are neither strings nor integers, or hold nulls.

    Example:
        >>> validation_users(pa.array(["ann", "bob", "cai", "ann"]), 0.5, seed=1).tolist()
        [True, False, True, True]
    """
    if user_ids.null_count:
        raise SchemaError(
            f"{user_ids.null_count} of {len(user_ids)} user ids are null.", hint="run `segmenter build` again."
        )
    hashes = _mix(_hash(user_ids) ^ _mix(np.full(1, seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)))
    # The upper 53 bits are an exact float64 in [0, 1).
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share


def _hash(user_ids: pa.Array) -> npt.NDArray[np.uint64]:
    if pa.types.is_dictionary(user_ids.type):
        user_ids = user_ids.dictionary_decode()
    if pa.types.is_integer(user_ids.type):
        return _mix(user_ids.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64))
    if pa.types.is_string(user_ids.type) or pa.types.is_large_string(user_ids.type):
        return _hash_bytes(user_ids.cast(pa.large_binary()))
    raise SchemaError(f"user ids have the type {user_ids.type}; string or int64 are allowed.")


def _hash_bytes(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """FNV-1a of each text, one step for the k-th byte of all texts at a time."""
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    hashes = np.full(len(texts), _FNV_OFFSET, dtype=np.uint64)
    if not lengths.size or not lengths.max():
        return hashes
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts)]
    content = np.frombuffer(texts.buffers()[2], dtype=np.uint8)
    for position in range(int(lengths.max())):
        rows = np.flatnonzero(lengths > position)
        hashes[rows] = (hashes[rows] ^ content[offsets[rows] + position].astype(np.uint64)) * _FNV_PRIME
    return hashes


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64: neighbouring inputs give unrelated outputs."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
