"""The owner's numbers as float64: from whole numbers, decimals, booleans and text; and money in whole minor units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.data.event_reasons import Flags, null_flags

_Floats = npt.NDArray[np.float64]

#: Text that Arrow reads for sure; it refuses a whole column for one value.
_WELL_FORMED = r"^-?[0-9]{1,100}(\.[0-9]{0,100})?([eE][+-]?[0-9]{1,2})?$"
_NUMBER = re.compile(
    r"[\x00-\x20]*([+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan))[\x00-\x20]*",
    re.IGNORECASE,
)
#: Up to here minor units and their tenths are exact as float64, and a decimal of so many digits is one float64 only.
_EXACT = 1e14
#: Digits that a float64 holds whatever they are.
_EXACT_DIGITS = 15
#: From here on a float64 has no fraction left to round, whatever the currency.
_WHOLE = 1e20


@dataclass(frozen=True)
class Numbers:
    """One column of numbers, read.

    Attributes:
        values: (N,) NaN where there is none, and where the owner's is NaN.
        is_missing: (N,) where the owner's value is absent; None where no such row, as with all flags.
        is_unreadable: (N,) where it is text that is no number.
    """

    values: _Floats
    is_missing: Flags | None = None
    is_unreadable: Flags | None = None

    def beyond(self, limit: float) -> Flags:
        """(N,) whether there is a value that is no finite number, or larger than a limit."""
        found = ~(np.abs(self.values) <= limit)
        for absent in (self.is_missing, self.is_unreadable):
            if absent is not None:
                found &= ~absent
        return found


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text, be it as a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether `read_numbers` can read a type."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return is_text(kind) or any(test(kind) for test in tests)


def read_numbers(column: pa.Array) -> Numbers:
    """Read a column of a type that `holds_numbers`."""
    if is_text(column.type):
        return _from_text(column.cast(pa.string()))
    if pa.types.is_decimal(column.type):
        return Numbers(_from_decimals(column), is_missing=null_flags(column))
    return Numbers(_filled(column.cast(pa.float64(), safe=False)), is_missing=null_flags(column))


def round_half_up(values: _Floats, digits: int) -> _Floats:
    """Round positive numbers, as written in decimal, to some digits after the point; a half goes up.

    What counts is the shortest decimal that is a float64's own: 1.005 gives 1.01, though the float64 lies below it.

    Args:
        values: (N,) not below 0; NaN and infinity stay.
        digits: 0 to 6.

    Example:
        >>> round_half_up(np.array([1.005, 2.675, 0.29]), 2)
        array([1.01, 2.68, 0.29])
    """
    scale = 10.0**digits
    with np.errstate(over="ignore", invalid="ignore"):
        below = np.floor(values * scale)
        half = (below * 10 + 5) / (scale * 10)
        rounded = (below + (values >= half)) / scale
        large = np.flatnonzero(below >= _EXACT)
    for place in large:
        value = float(values[place])
        is_whole = value >= _WHOLE / scale
        rounded[place] = (
            value if is_whole else float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
        )
    return rounded


def _from_text(text: pa.StringArray) -> Numbers:
    is_well_formed = pc.match_substring_regex(text, _WELL_FORMED)
    is_missing, is_left = null_flags(text), ~np.asarray(is_well_formed.fill_null(True))
    if not is_left.any():
        return Numbers(_filled(text.cast(pa.float64())), is_missing)
    values = _filled(pc.if_else(is_well_formed, text, None).cast(pa.float64())).copy()
    coded = text.filter(pa.array(is_left)).dictionary_encode()
    entries, codes = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    matches = [_NUMBER.fullmatch(entry) for entry in entries]
    values[is_left] = np.array([float("nan" if match is None else match[1]) for match in matches])[codes]
    is_blank, is_unreadable = np.zeros(len(text), np.bool_), np.zeros(len(text), np.bool_)
    is_blank[is_left] = np.array([not entry.strip(" ") for entry in entries])[codes]
    is_unreadable[is_left] = np.array([match is None for match in matches])[codes]
    is_unreadable &= ~is_blank
    return Numbers(values, is_blank if is_missing is None else is_missing | is_blank, is_unreadable)


def _from_decimals(column: pa.Array) -> _Floats:
    """Decimals, each as the float64 nearest to it, which Arrow's own cast is not."""
    kind = column.type
    if not (pa.types.is_decimal128(kind) and kind.precision <= _EXACT_DIGITS and 0 <= kind.scale <= _EXACT_DIGITS):
        return _filled(column.cast(pa.string()).cast(pa.float64()))
    # Both the digits and the power of ten are exact, so their quotient is rounded once.
    digits = np.frombuffer(column.buffers()[1], "<i8")[2 * column.offset :: 2][: len(column)]
    values = digits / 10.0**kind.scale
    is_missing = null_flags(column)
    return values if is_missing is None else np.where(is_missing, np.nan, values)


def _filled(floats: pa.Array) -> _Floats:
    return np.asarray(floats.fill_null(float("nan")))
