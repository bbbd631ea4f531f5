"""Entity keys as Feast serialises them (version 3), from Arrow columns and from the values of a lookup.

Layout, all numbers little-endian uint32: how many join keys; for each, sorted by name, the type STRING, the length and
the name; then for each value, in the same order, its type, its length and its bytes
(``feast/infra/key_encoding_utils.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values

from segmenter_plugin.errors import StoreError

#: The only version that Feast still writes.
KEY_VERSION = 3

_STRING = ValueType.STRING.value
_FIXED_KEYS = {ValueType.INT32: pa.int32(), ValueType.INT64: pa.int64(), ValueType.UNIX_TIMESTAMP: pa.int64()}
_TEXT_KEYS = (ValueType.STRING, ValueType.BYTES)


def encodes_key(value_type: ValueType) -> bool:
    """Whether join keys of that Feast type are written here; Feast allows no others."""
    return value_type in _FIXED_KEYS or value_type in _TEXT_KEYS


def encode_keys(batch: pa.RecordBatch, join_keys: Mapping[str, ValueType]) -> pa.Array:
    """Serialise the entity key of each row.

    Args:
        batch: Holds a column for each join key.
        join_keys: Their Feast types.

    Returns:
        (N,) ``binary`` without nulls.

    Raises:
        StoreError: A row lacks a key.
    """
    names = sorted(join_keys)
    pieces: list[pa.Array | pa.Scalar] = [pa.scalar(_head(names), pa.binary())]
    for name in names:
        column = batch.column(name)
        if column.null_count:
            raise StoreError(
                f"{column.null_count} of {len(column)} rows have no {name}; each row needs its key.",
                hint="look at what writes the source; rows without a key cannot be looked up.",
            )
        pieces += _key_column(column, join_keys[name])
    return pc.binary_join_element_wise(*pieces, pa.repeat(pa.scalar(b"", pa.binary()), batch.num_rows))


def _key_column(column: pa.Array, value_type: ValueType) -> list[pa.Array | pa.Scalar]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if value_type in _TEXT_KEYS:
        text = column.cast(pa.binary())
        lengths = pc.binary_length(text).cast(pa.uint32())
        return [_uint32(value_type.value), _fixed_bytes(lengths), text]
    if value_type == ValueType.UNIX_TIMESTAMP:
        column = pc.floor_temporal(column, unit="second").cast(pa.timestamp("s", column.type.tz))
    numbers = _fixed_bytes(column.cast(_FIXED_KEYS[value_type]))
    size = _FIXED_KEYS[value_type].bit_width // 8
    return [pa.scalar(struct.pack("<II", value_type.value, size), pa.binary()), numbers]


def _fixed_bytes(column: pa.Array) -> pa.Array:
    """(N,) ``binary`` of the little-endian bytes of a column of numbers without nulls."""
    numbers = np.ascontiguousarray(column.to_numpy(zero_copy_only=False))
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * numbers.itemsize
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(numbers)]
    return pa.Array.from_buffers(pa.binary(), len(numbers), buffers)


def _uint32(number: int) -> pa.Scalar:
    return pa.scalar(struct.pack("<I", number), pa.binary())


def _head(names: Sequence[str]) -> bytes:
    encoded = [name.encode() for name in names]
    return struct.pack("<I", len(encoded)) + b"".join(struct.pack("<II", _STRING, len(key)) + key for key in encoded)


class KeyEncoder:
    """Serialised keys of what a caller asks for.

    One join key of strings or integers, the usual case, is laid out here; anything else goes through Feast's messages.

    Args:
        join_keys: Name and Feast type of each join key.
    """

    def __init__(self, join_keys: Mapping[str, ValueType]) -> None:
        self._join_keys = dict(join_keys)
        self._encode: Callable[[Mapping[str, Sequence[Any]]], list[bytes]] = self._by_message
        if len(self._join_keys) == 1:
            ((name, value_type),) = self._join_keys.items()
            self._encode = self._fast(name, value_type) or self._by_message

    def __call__(self, columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
        """Serialise rows given by column.

        Args:
            columns: For each join key its (N,) values; further columns are ignored.

        Returns:
            (N,) serialised keys, in the order asked, repeated ones included.

        Raises:
            KeyError: A join key is missing.
            ValueError: A value is null.
        """
        return self._encode(columns)

    def _fast(self, name: str, value_type: ValueType) -> Callable[[Mapping[str, Sequence[Any]]], list[bytes]] | None:
        head = _head([name])
        if value_type in (ValueType.INT64, ValueType.INT32):
            pack = struct.Struct("<q" if value_type == ValueType.INT64 else "<i").pack
            prefix = head + struct.pack("<II", value_type.value, 8 if value_type == ValueType.INT64 else 4)
            return lambda columns: [prefix + pack(_whole(value)) for value in columns[name]]
        if value_type == ValueType.STRING:
            start, length = head + struct.pack("<I", _STRING), struct.Struct("<I").pack

            def texts(columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
                encoded = [_text(value).encode() for value in columns[name]]
                return [start + length(len(text)) + text for text in encoded]

            return texts
        return None

    def _by_message(self, columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
        names = list(self._join_keys)
        values = [python_values_to_proto_values(list(columns[name]), self._join_keys[name]) for name in names]
        for name, column in zip(names, values, strict=True):
            if any(value.WhichOneof("val") is None for value in column):
                raise ValueError(f"a value of the join key {name!r} is null")
        return [
            serialize_entity_key(EntityKey(join_keys=names, entity_values=row), KEY_VERSION)
            for row in zip(*values, strict=True)
        ]


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if value is None or value != value:  # noqa: PLR0124 (NaN)
        raise ValueError("a value of the join key is null")
    return int(value)


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if value is None or value != value:  # noqa: PLR0124 (NaN)
        raise ValueError("a value of the join key is null")
    return str(value)
