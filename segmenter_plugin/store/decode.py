"""Stored bytes back to values: the other direction of `wire`, for lookups.

A cell is one serialised ``Value`` message. Floats and lists of floats of one length are the same few bytes before the
same number of payload bytes in each row, so a whole column is one NumPy view; what is no such column is parsed cell by
cell. What comes out equals ``feast.type_map.feast_value_type_to_python_type`` on each message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from feast import ValueType
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type

from segmenter_plugin.errors import StoreError

Cells = Sequence[bytes | None]

_parse = Value.FromString

_FLOATS: dict[ValueType, tuple[bytes, np.dtype[Any]]] = {
    ValueType.FLOAT: (b"\x35", np.dtype("<f4")),
    ValueType.DOUBLE: (b"\x29", np.dtype("<f8")),
}
_FLOAT_LISTS: dict[ValueType, tuple[bytes, np.dtype[Any]]] = {
    ValueType.FLOAT_LIST: (b"\x82\x01", np.dtype("<f4")),
    ValueType.DOUBLE_LIST: (b"\x7a", np.dtype("<f8")),
}


def _text(cell: bytes) -> str:
    if cell[1] < 0x80:  # the length is one byte
        return cell[2:].decode()
    return str(_parse(cell).string_val)


#: First byte of the message, and how its value is read; all of them immutable, so that rows may share one.
_SCALARS: dict[ValueType, tuple[int, Callable[[bytes], Any]]] = {
    ValueType.BYTES: (0x0A, lambda cell: _parse(cell).bytes_val),
    ValueType.STRING: (0x12, _text),
    ValueType.INT32: (0x18, lambda cell: _parse(cell).int32_val),
    ValueType.INT64: (0x20, lambda cell: _parse(cell).int64_val),
    ValueType.BOOL: (0x38, lambda cell: _parse(cell).bool_val),
    ValueType.UNIX_TIMESTAMP: (0x40, lambda cell: feast_value_type_to_python_type(_parse(cell))),
}

_LISTS: dict[ValueType, tuple[bytes, Callable[[Any], Any]]] = {
    ValueType.BYTES_LIST: (b"\x5a", attrgetter("bytes_list_val.val")),
    ValueType.STRING_LIST: (b"\x62", attrgetter("string_list_val.val")),
    ValueType.INT32_LIST: (b"\x6a", attrgetter("int32_list_val.val")),
    ValueType.INT64_LIST: (b"\x72", attrgetter("int64_list_val.val")),
    ValueType.DOUBLE_LIST: (b"\x7a", attrgetter("double_list_val.val")),
    ValueType.FLOAT_LIST: (b"\x82\x01", attrgetter("float_list_val.val")),
    ValueType.BOOL_LIST: (b"\x8a\x01", attrgetter("bool_list_val.val")),
}

#: Largest distance from zero up to which float64 holds every integer.
_EXACT = 2**53

_INTEGERS = (ValueType.INT32, ValueType.INT64, ValueType.INT32_LIST, ValueType.INT64_LIST)

_WIDTH: dict[ValueType, type[np.floating[Any]]] = {
    ValueType.FLOAT: np.float32,
    ValueType.FLOAT_LIST: np.float32,
    ValueType.BOOL: np.float32,
    ValueType.BOOL_LIST: np.float32,
    ValueType.DOUBLE: np.float64,
    ValueType.DOUBLE_LIST: np.float64,
    ValueType.INT32: np.float64,
    ValueType.INT32_LIST: np.float64,
    ValueType.INT64: np.float64,
    ValueType.INT64_LIST: np.float64,
}

_first_byte = itemgetter(0)

#: Head of a cell, a getter of the same slice of any cell, and the whole cell as a NumPy record.
_FloatLayout = tuple[bytes, Callable[[bytes], bytes], np.dtype[Any]]


class Decoder:
    """Cells of one feature to values.

    Args:
        value_type: As the view declares the feature; a message of another type is still read right.
    """

    def __init__(self, value_type: ValueType) -> None:
        self.value_type = value_type
        self._scalar = _SCALARS.get(value_type)
        self._list = _LISTS.get(value_type)
        self._is_float = value_type in _FLOATS or value_type in _FLOAT_LISTS
        self._layouts: dict[int, _FloatLayout | None] = {}

    def values(self, cells: Cells) -> list[Any]:
        """(N,) Python values as Feast gives them; None for a cell that is None or empty."""
        if None not in cells and b"" not in cells:
            return self._held(cells)  # type: ignore[arg-type]
        values = iter(self._held([cell for cell in cells if cell]))
        return [next(values) if cell else None for cell in cells]

    def _held(self, cells: Sequence[bytes]) -> list[Any]:
        if self._is_float:
            block = self.block(cells)
            if block is not None:
                return block.tolist()
        if self._scalar is not None:
            tag, read = self._scalar
            if set(map(_first_byte, cells)) <= {tag}:
                values = {cell: read(cell) for cell in set(cells)}
                return [values[cell] for cell in cells]
        if self._list is not None:
            head, elements = self._list
            if all(cell.startswith(head) for cell in cells):
                return [list(elements(_parse(cell))) for cell in cells]
        return [feast_value_type_to_python_type(_parse(cell), self.value_type) for cell in cells]

    def block(self, cells: Sequence[bytes]) -> np.ndarray | None:
        """A column of floats as an array.

        Args:
            cells: (N,) messages, none of them empty.

        Returns:
            (N,) for numbers, (N, D) for lists, float32 or float64 as the type has it; None where the cells are not all
            floats of one shape, or N is zero.
        """
        lengths = set(map(len, cells))
        if not self._is_float or len(lengths) != 1:
            return None
        length = lengths.pop()
        try:
            layout = self._layouts[length]
        except KeyError:
            layout = self._layouts[length] = _float_layout(self.value_type, length)
        if layout is None:
            return None
        head, take_head, row = layout
        if set(map(take_head, cells)) != {head}:
            return None
        return np.frombuffer(b"".join(cells), row)["value"]

    def numbers(self, cells: Cells, feature: str) -> np.ndarray:
        """A numeric column as an array.

        Args:
            cells: (N,) messages.
            feature: For the error.

        Returns:
            (N,) for numbers, (N, D) for lists, NaN where there is no value: float32 for Float32 and booleans, float64
            for Float64 and for integers, which have no NaN of their own. Where no row holds a list D is not known, and
            0.

        Raises:
            StoreError: The feature is no number, lists differ in length, or an integer is beyond 2^53.
        """
        held = [cell for cell in cells if cell]
        block = self.block(held)
        if block is None:
            return number_array(self.values(cells), self.value_type, feature)
        return _filled(block, [bool(cell) for cell in cells])


def is_numeric(value_type: ValueType) -> bool:
    """Whether `Decoder.numbers` takes features of that type."""
    return value_type in _WIDTH


def _float_layout(value_type: ValueType, length: int) -> _FloatLayout | None:
    """How a cell of that length is made up; None where no such cell has that length."""
    if value_type in _FLOATS:
        head, number = _FLOATS[value_type]
        count: tuple[int, ...] = ()
        fits = length == len(head) + number.itemsize
    else:
        tag, number = _FLOAT_LISTS[value_type]
        head, payload = _list_head(tag, length)
        count = (payload // number.itemsize,)
        fits = payload > 0 and payload % number.itemsize == 0
    row = np.dtype([("head", f"V{len(head)}"), ("value", number, count)])
    return (head, itemgetter(slice(len(head))), row) if fits else None


def _list_head(tag: bytes, length: int) -> tuple[bytes, int]:
    """Head of a list message of that length, and the bytes of its payload; zero where there is none."""
    for width in range(1, 6):  # of the varint that tells the payload's length
        for outer in (width, width + 1):
            payload = length - len(tag) - outer - 1 - width
            if payload <= 0:
                continue
            inside = b"\x0a" + varint(payload)
            head = tag + varint(len(inside) + payload) + inside
            if len(head) + payload == length:
                return head, payload
    return b"", 0


def varint(number: int) -> bytes:
    """Protobuf's base-128 encoding of a length."""
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def number_array(values: Sequence[Any], value_type: ValueType, feature: str) -> np.ndarray:
    """`Decoder.numbers` of (N,) values that are decoded already."""
    if value_type not in _WIDTH:
        raise StoreError(
            f"the feature {feature!r} is a {value_type.name}, which makes no array of numbers.",
            hint="take it from to_dict() or to_arrow().",
        )
    held = [value for value in values if value is not None]
    shape: tuple[int, ...] = (len(held),)
    flat = held
    if value_type.name.endswith("_LIST"):
        lengths = {len(value) for value in held}
        if len(lengths) > 1:
            raise StoreError(
                f"lists of the lengths {sorted(lengths)} stand in {feature!r}; one length makes an array.",
                hint="materialise rows of one model only; to_dict() gives ragged lists.",
            )
        flat, shape = [number for value in held for number in value], (len(held), *(lengths or {0}))
    if value_type in _INTEGERS:
        beyond = [number for number in flat if abs(number) > _EXACT]
        if beyond:
            raise StoreError(
                f"{feature!r} holds {beyond[0]}, which float64 cannot hold for certain; up to 2^53 it can.",
                hint="take it from to_dict() or to_arrow().",
            )
    numbers = np.array(flat, dtype=_WIDTH[value_type]).reshape(shape)
    return _filled(numbers, [value is not None for value in values])


def _filled(block: np.ndarray, is_there: list[bool]) -> np.ndarray:
    """Rows of NaN where there is none in the block."""
    if len(block) == len(is_there):
        return np.ascontiguousarray(block)
    filled = np.full((len(is_there), *block.shape[1:]), np.nan, dtype=block.dtype)
    filled[is_there] = block
    return filled
