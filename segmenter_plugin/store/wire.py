"""Arrow columns as the bytes that Feast's online stores keep: one serialised ``Value`` message a cell.

Feast builds one Python protobuf object a value. The messages are simple enough to be laid out column by column: a tag
(field number and wire type), a length where the payload has one, the payload. A payload is Arrow's own buffer wherever
protobuf agrees with it (IEEE 754 little-endian numbers, UTF-8), so that no Python object is made for any cell.

Sources: https://protobuf.dev/programming-guides/encoding, ``feast/protos/feast/types/Value.proto`` and, for what
becomes of nulls, ``feast/type_map.py`` (0.67). Where Feast loses a value (int64 above 2^53 beside nulls, nanoseconds
in lists), the value as it is in the column is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import ValueType
from google.protobuf.timestamp_pb2 import Timestamp

from segmenter_plugin.errors import StoreError

#: What Feast writes for a timestamp that is null: NumPy's NaT as an integer.
NULL_TIME = -(2**63)

_NANOS = 1_000_000_000
_EMPTY = pa.scalar(b"", pa.binary())

_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())
_FLOATS = (pa.float32(), pa.float64())
_STRINGS = (pa.string(), pa.large_string())
_BYTES = (pa.binary(), pa.large_binary())

#: Field numbers within ``Value``; of lists the number of the list message.
_FIELD = {
    ValueType.BYTES: 1,
    ValueType.STRING: 2,
    ValueType.INT32: 3,
    ValueType.INT64: 4,
    ValueType.DOUBLE: 5,
    ValueType.FLOAT: 6,
    ValueType.BOOL: 7,
    ValueType.UNIX_TIMESTAMP: 8,
    ValueType.BYTES_LIST: 11,
    ValueType.STRING_LIST: 12,
    ValueType.INT32_LIST: 13,
    ValueType.INT64_LIST: 14,
    ValueType.DOUBLE_LIST: 15,
    ValueType.FLOAT_LIST: 16,
    ValueType.BOOL_LIST: 17,
    ValueType.UNIX_TIMESTAMP_LIST: 18,
}

#: Value type of a list's elements.
ELEMENT = {
    ValueType.BYTES_LIST: ValueType.BYTES,
    ValueType.STRING_LIST: ValueType.STRING,
    ValueType.INT32_LIST: ValueType.INT32,
    ValueType.INT64_LIST: ValueType.INT64,
    ValueType.DOUBLE_LIST: ValueType.DOUBLE,
    ValueType.FLOAT_LIST: ValueType.FLOAT,
    ValueType.BOOL_LIST: ValueType.BOOL,
    ValueType.UNIX_TIMESTAMP_LIST: ValueType.UNIX_TIMESTAMP,
}

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def encodes(value_type: ValueType, arrow_type: pa.DataType) -> bool:
    """Whether a column of that Arrow type is written here as that Feast type.

    Feast converts more pairs (numbers to strings, say); a caller leaves those to Feast.
    """
    if pa.types.is_null(arrow_type):
        return value_type in _FIELD
    if value_type in ELEMENT:
        is_list = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
        is_list = is_list or pa.types.is_fixed_size_list(arrow_type)
        return is_list and encodes(ELEMENT[value_type], arrow_type.value_type)
    if pa.types.is_dictionary(arrow_type):
        return value_type == ValueType.STRING and arrow_type.value_type in _STRINGS
    if value_type == ValueType.UNIX_TIMESTAMP:
        return pa.types.is_timestamp(arrow_type)
    known = {
        ValueType.INT32: _INTEGERS,
        ValueType.INT64: _INTEGERS,
        ValueType.FLOAT: _FLOATS,
        ValueType.DOUBLE: _FLOATS,
        ValueType.STRING: _STRINGS,
        ValueType.BYTES: _BYTES,
        ValueType.BOOL: (pa.bool_(),),
    }
    return arrow_type in known.get(value_type, ())


def encode_values(column: pa.Array, value_type: ValueType) -> pa.Array:
    """Serialise a column.

    Args:
        column: (N,) of a type for which `encodes` holds.
        value_type: As the view declares the feature.

    Returns:
        (N,) ``binary`` without nulls: a ``Value`` message each, empty where the value is null. As in Feast a NaN is
        null (within a list it stays), and a null timestamp is ``unix_timestamp_val = NULL_TIME``.

    Raises:
        pa.ArrowInvalid: An integer does not fit an Int32 feature, or the batch holds 2 GiB of bytes.
    """
    if pa.types.is_null(column.type):
        return pa.repeat(_EMPTY, len(column))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if value_type in ELEMENT:
        return _encode_lists(column, value_type)
    field = _FIELD[value_type]
    if value_type == ValueType.UNIX_TIMESTAMP:
        return _join(_tag(field, _VARINT), varints(_seconds(column)))
    payload, wire_type = _SCALARS[value_type](column)
    present = pc.is_valid(column)
    if wire_type in (_FIXED32, _FIXED64):
        present = pc.and_(present, pc.invert(pc.is_nan(pc.fill_null(column, 0.0))))
    encoded = _join(_tag(field, wire_type), payload)
    return encoded if pc.all(present).as_py() in (True, None) else pc.if_else(present, encoded, _EMPTY)


def _encode_lists(column: pa.Array, value_type: ValueType) -> pa.Array:
    present = pc.is_valid(column)
    if not pa.types.is_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    flat = column.flatten()  # elements of null lists left out, as their length below is 0
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    element = ELEMENT[value_type]
    if pa.types.is_null(flat.type):
        flat = flat.cast(_NULLS_AS[element])
    message = _elements(flat, element, ends)
    encoded = _join(_tag(_FIELD[value_type], _LENGTH), _length(message), message)
    return encoded if pc.all(present).as_py() in (True, None) else pc.if_else(present, encoded, _EMPTY)


def _elements(flat: pa.Array, element: ValueType, ends: np.ndarray) -> pa.Array:
    """(N,) list messages: ``repeated … val = 1`` of the elements between `ends`."""
    if element in (ValueType.STRING, ValueType.BYTES):
        bytes_ = pc.fill_null(_as_binary(flat), b"")
        one_by_one = _join(_tag(1, _LENGTH), _length(bytes_), bytes_)
        starts = np.concatenate([[0], np.cumsum(pc.binary_length(one_by_one).to_numpy(), dtype=np.int64)])
        return _binary(one_by_one.buffers()[2], starts[ends])
    if element == ValueType.UNIX_TIMESTAMP:
        packed = varints(_seconds(flat, toward_zero=True))
    else:
        packed, _ = _SCALARS[element](flat)
    starts = np.concatenate([[0], np.cumsum(_byte_lengths(packed), dtype=np.int64)])
    payload = _binary(packed.buffers()[2], starts[ends])
    head = _join(_tag(1, _LENGTH), _length(payload))
    empty = pc.equal(pc.binary_length(payload), 0)
    return _join(pc.if_else(empty, _EMPTY, head) if pc.any(empty).as_py() else head, payload)


def _integers(column: pa.Array, width: pa.DataType) -> tuple[pa.Array, int]:
    # Negative numbers are sign-extended to 64 bits, int32 as well.
    numbers = pc.fill_null(column, 0).cast(width).cast(pa.int64())
    return varints(numbers.to_numpy(zero_copy_only=False)), _VARINT


def _fixed(column: pa.Array, width: pa.DataType, wire_type: int) -> tuple[pa.Array, int]:
    numbers = pc.fill_null(column, float("nan")).cast(width, safe=False).to_numpy(zero_copy_only=False)
    size = width.bit_width // 8
    ends = np.arange(len(numbers) + 1, dtype=np.int64) * size
    return _binary(pa.py_buffer(np.ascontiguousarray(numbers)), ends), wire_type


def _booleans(column: pa.Array) -> tuple[pa.Array, int]:
    return varints(pc.fill_null(column, False).cast(pa.int64()).to_numpy(zero_copy_only=False)), _VARINT


def _delimited(column: pa.Array) -> tuple[pa.Array, int]:
    bytes_ = pc.fill_null(_as_binary(column), b"")
    return _join(_length(bytes_), bytes_), _LENGTH


_SCALARS: dict[ValueType, Callable[[pa.Array], tuple[pa.Array, int]]] = {
    ValueType.INT32: lambda column: _integers(column, pa.int32()),
    ValueType.INT64: lambda column: _integers(column, pa.int64()),
    ValueType.FLOAT: lambda column: _fixed(column, pa.float32(), _FIXED32),
    ValueType.DOUBLE: lambda column: _fixed(column, pa.float64(), _FIXED64),
    ValueType.BOOL: _booleans,
    ValueType.STRING: _delimited,
    ValueType.BYTES: _delimited,
}

#: Type that stands for the elements of a list whose Arrow element type is null.
_NULLS_AS = {
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.BOOL: pa.bool_(),
    ValueType.STRING: pa.string(),
    ValueType.BYTES: pa.binary(),
    ValueType.UNIX_TIMESTAMP: pa.timestamp("us"),
}


def to_nanos(column: pa.Array) -> np.ndarray:
    """(N,) int64 nanoseconds since the epoch of a timestamp column without nulls; one without a zone is UTC.

    Below a microsecond is cut off, as Feast's Python datetimes do.
    """
    micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return micros.to_numpy(zero_copy_only=False) * 1_000


def encode_times(nanos: np.ndarray) -> pa.Array:
    """(N,) ``google.protobuf.Timestamp`` messages, ``binary``, of (N,) int64 nanoseconds since the epoch."""
    seconds, rest = np.divmod(np.asarray(nanos, dtype=np.int64), _NANOS)
    return _join(_optional(1, seconds), _optional(2, rest))


def decode_time(serialised: bytes) -> int:
    """Nanoseconds since the epoch of one ``google.protobuf.Timestamp`` message."""
    time = Timestamp.FromString(serialised)
    return int(time.seconds) * _NANOS + int(time.nanos)


def _optional(field: int, numbers: np.ndarray) -> pa.Array:
    """A field of its own message leaves the zero out."""
    written = _join(_tag(field, _VARINT), varints(numbers))
    return pc.if_else(pa.array(numbers != 0), written, _EMPTY)


def _seconds(column: pa.Array, *, toward_zero: bool = False) -> np.ndarray:
    """(N,) int64 seconds, ``NULL_TIME`` for null. Feast cuts a scalar down, and within a list towards zero."""
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    numbers = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    seconds = numbers // unit
    if toward_zero:
        seconds = seconds + ((numbers < 0) & (seconds * unit != numbers))
    return np.where(pc.is_null(column).to_numpy(zero_copy_only=False), np.int64(NULL_TIME), seconds)


def varints(numbers: np.ndarray) -> pa.Array:
    """(N,) ``binary``: base-128 varints of (N,) int64; negative ones take ten bytes."""
    unsigned = np.ascontiguousarray(numbers, dtype=np.int64).view(np.uint64)
    highest = int(unsigned.max(initial=0))
    if highest < 0x80:
        return _binary(pa.py_buffer(unsigned.astype(np.uint8)), np.arange(len(unsigned) + 1))
    lengths = np.ones(len(unsigned), dtype=np.int64)
    for power in range(7, highest.bit_length(), 7):
        lengths += unsigned >= np.uint64(1 << power)
    place = np.arange(lengths.max(), dtype=np.uint64)
    groups = ((unsigned[:, None] >> (np.uint64(7) * place)) & np.uint64(0x7F)).astype(np.uint8)
    groups[place + np.uint64(1) < lengths[:, None].astype(np.uint64)] |= 0x80
    written = groups[place < lengths[:, None].astype(np.uint64)]
    return _binary(pa.py_buffer(written), np.concatenate([[0], np.cumsum(lengths)]))


def _length(messages: pa.Array) -> pa.Array | pa.Scalar:
    lengths = pc.binary_length(messages).to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths == lengths[0]).all():  # the usual case: one embedding size
        return varints(lengths[:1])[0]
    return varints(lengths)


def _byte_lengths(messages: pa.Array) -> np.ndarray:
    return pc.binary_length(messages).to_numpy(zero_copy_only=False)


def _tag(field: int, wire_type: int) -> pa.Scalar:
    return varints(np.array([field << 3 | wire_type]))[0]


def _as_binary(column: pa.Array) -> pa.Array:
    return column.cast(pa.binary())


def _binary(data: pa.Buffer, ends: np.ndarray) -> pa.Array:
    """(N,) ``binary`` over a buffer, without copying it; `ends` holds N + 1 positions."""
    if ends[-1] >= 2**31:
        raise StoreError(
            f"one batch holds {ends[-1]} bytes of one column; below 2 GiB fit.", hint="write smaller batches."
        )
    return pa.Array.from_buffers(pa.binary(), len(ends) - 1, [None, pa.py_buffer(ends.astype(np.int32)), data])


def _join(*parts: pa.Array | pa.Scalar) -> pa.Array:
    """Element-wise concatenation, in C++ and without the interpreter's lock."""
    joined: Any = pc.binary_join_element_wise(*parts, _EMPTY)
    return joined
