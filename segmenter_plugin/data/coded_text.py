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
        """Number the different values of text, or of a dictionary of text without touching the text of its rows."""
        if pa.types.is_dictionary(column.type):
            return cls._of_dictionaries(column)
        plain = column if pa.types.is_string(column.type) else column.cast(pa.string())
        coded = one_array(plain.dictionary_encode())
        return cls.under(_places(coded), coded.dictionary)

    @classmethod
    def _of_dictionaries(cls, column: pa.ChunkedArray) -> Self:
        """Chunks may have different dictionaries, and a dictionary may repeat an entry or hold a null."""
        chunks = column.chunks
        entries = pa.chunked_array([chunk.dictionary for chunk in chunks], column.type.value_type)
        known = cls.of(entries)
        starts = np.cumsum([0, *(len(chunk.dictionary) for chunk in chunks)])
        codes = np.empty(len(column), np.int32)
        end = 0
        for chunk, start in zip(chunks, starts, strict=False):
            own = np.append(known.codes[start : start + len(chunk.dictionary)], np.int32(0))
            # Place -1 is the last one, so null takes the null that was appended.
            codes[end : end + len(chunk)] = own[_places(chunk)]
            end += len(chunk)
        return cls(codes, known.entries)

    @classmethod
    def of_ascending(cls, text: pa.Array) -> Self | None:
        """Number text without hashing it; None unless it is in order, all of it known."""
        if not pa.types.is_string(text.type) or not _is_ascending(text):
            return None
        is_new = np.ones(len(text), np.bool_)
        is_new[1:] = pc.not_equal(text[1:], text[:-1]).to_numpy(zero_copy_only=False)
        return cls.under(np.cumsum(is_new, dtype=np.int32) - np.int32(1), text.filter(pa.array(is_new)))

    @classmethod
    def under(cls, places: npt.NDArray[np.int32], values: pa.StringArray) -> Self:
        """Text given as places among different values, none of them null."""
        return cls(places + np.int32(1), pa.concat_arrays([pa.nulls(1, pa.string()), values]))

    def take(self, places: Integers | slice) -> Self:
        """The values at some places."""
        return type(self)(self.codes[places], self.entries)

    def text(self) -> pa.StringArray:
        """The values themselves."""
        return self.entries.take(pa.array(self.codes))

    def dictionary(self) -> pa.DictionaryArray:
        """The values as a dictionary; its entries are those of `entries` after the null, used or not."""
        is_null = self.codes == 0
        places = pa.array(self.codes - np.int32(1), mask=is_null if is_null.any() else None)
        return pa.DictionaryArray.from_arrays(places, self.entries.slice(1))

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
    first = int(len(entries) > 0 and not entries[0].is_valid)
    if _is_ascending(entries[first:]):
        return np.arange(len(entries))
    ranks = np.empty(len(entries), np.int64)
    ranks[pc.array_sort_indices(entries, null_placement="at_start").to_numpy()] = np.arange(len(entries))
    return ranks


def _is_ascending(values: pa.Array) -> bool:
    return values.null_count == 0 and pc.all(pc.less_equal(values[:-1], values[1:])).as_py() is not False


def _places(coded: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    """(N,) place of each value in the dictionary, -1 for null."""
    return pc.fill_null(coded.indices.cast(pa.int32()), -1).to_numpy()


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, copied only if it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
