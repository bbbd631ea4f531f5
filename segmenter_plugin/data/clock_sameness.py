"""Whether two columns hold the same, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Flags = npt.NDArray[np.bool_]

#: Of two floating numbers: what a library's logarithms differ by from machine to machine, and no event is so small.
_RELATIVE = 1e-9


def differing(left: pa.Array, right: pa.Array) -> Flags:
    """Where two columns differ.

    Args:
        left: (N,) of any plain type, or lists of one.
        right: (N,) of the same type.

    Returns:
        (N,). Null equals null alone; floating numbers are the same within a billionth, NaN and NaN too.
    """
    if left.equals(right):
        return np.zeros(len(left), np.bool_)
    if pa.types.is_list(left.type):
        return _differing_lists(left, right)
    if pa.types.is_struct(left.type):
        return _differing_structs(left, right)
    is_one_null = np.asarray(pc.xor(pc.is_null(left), pc.is_null(right)).to_numpy(zero_copy_only=False))
    if pa.types.is_floating(left.type):
        is_other = ~np.isclose(_numbers(left), _numbers(right), rtol=_RELATIVE, atol=0.0, equal_nan=True)
    else:
        is_other = pc.fill_null(pc.not_equal(left, right), fill_value=False).to_numpy(zero_copy_only=False)
    result: Flags = is_one_null | is_other
    return result


def _differing_lists(left: pa.ListArray, right: pa.ListArray) -> Flags:
    lengths = [pc.fill_null(pc.list_value_length(column), -1).to_numpy() for column in (left, right)]
    result: Flags = lengths[0] != lengths[1]
    alike = np.flatnonzero(~result)
    flat = [pc.list_flatten(column.take(pa.array(alike))) for column in (left, right)]
    owners = np.repeat(alike, np.maximum(lengths[0][alike], 0))
    result[owners[differing(*flat)]] = True
    return result


def _differing_structs(left: pa.StructArray, right: pa.StructArray) -> Flags:
    result: Flags = left.is_valid().to_numpy(zero_copy_only=False) != right.is_valid().to_numpy(zero_copy_only=False)
    for place in range(left.type.num_fields):
        result |= differing(pc.struct_field(left, [place]), pc.struct_field(right, [place]))
    return result


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)
