"""A column of text as whole numbers, so that it can be compared, grouped and moved without touching the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CodedText:
    """Text by code.

    Attributes:
        codes: (N,) place of each value among the entries; 0 is null.
        entries: (K,) different strings after a null; in no particular order.
    """

    codes: npt.NDArray[np.int32]
    entries: pa.StringArray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Self:
        """Number the different values of text, or of a dictionary of text."""
        plain = column if pa.types.is_string(column.type) else column.cast(pa.string())
        coded = one_array(plain.dictionary_encode())
        codes = pc.fill_null(coded.indices, -1).to_numpy() + np.int32(1)
        return cls(codes, pa.concat_arrays([pa.nulls(1, pa.string()), coded.dictionary]))

    def take(self, places: Integers) -> Self:
        """The values at some places."""
        return type(self)(self.codes[places], self.entries)

    def text(self) -> pa.StringArray:
        """The values themselves."""
        return self.entries.take(pa.array(self.codes))

    def code(self, value: str) -> int:
        """Code of a value, -1 if it does not occur."""
        return int(self.entries.index(value).as_py())

    def ranks(self) -> Integers:
        """(N,) places of the values in the order of their UTF-8 bytes, null first; equal for equal values."""
        if len(self.codes) >= len(self.entries):
            return entry_ranks(self.entries)[self.codes]
        different, which = np.unique(self.codes, return_inverse=True)
        return entry_ranks(self.entries.take(pa.array(different)))[which]


def entry_ranks(entries: pa.Array) -> Integers:
    """(K,) place of each of some different values in their order; text by its UTF-8 bytes, null first."""
    ranks = np.empty(len(entries), np.int64)
    ranks[pc.array_sort_indices(entries, null_placement="at_start").to_numpy()] = np.arange(len(entries))
    return ranks


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, copied only if it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
