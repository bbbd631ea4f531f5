"""The numbers of each categorical column's values: known values by their place, open-ended ones by a hash."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.data.user_buckets import buckets_of
from segmenter_plugin.errors import ArtifactError, SchemaError

PADDING = 0
MASK = 1
#: Null, rare, or never seen in training.
UNKNOWN = 2
SPECIAL_COUNT = 3


@dataclass(frozen=True)
class Vocabulary:
    """How a value becomes a number, by column; numbers below `SPECIAL_COUNT` are special.

    Attributes:
        values: Known values by column, most frequent first; a value's number follows from its place.
        buckets: How many buckets the values of a hashed column share; a value's number follows from its bucket.

    Example:
        >>> vocabulary = Vocabulary({"category": ("milk", "bread")})
        >>> vocabulary.encode("category", pa.array(["bread", "caviar", None, "milk"])).tolist()
        [4, 2, 2, 3]
    """

    values: Mapping[str, tuple[str, ...]]
    buckets: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The categorical columns, in their fixed order."""
        return (*self.values, *self.buckets)

    def size(self, column: str) -> int:
        """How many numbers a column uses, specials included."""
        return (self.buckets[column] if column in self.buckets else len(self.values[column])) + SPECIAL_COUNT

    def encode(self, column: str, array: pa.Array) -> npt.NDArray[np.int32]:
        """Numbers of values.

        Args:
            column: Which column's values these are.
            array: Strings, (N,), plain or dictionary-encoded.

        Returns:
            (N,) numbers in ``[UNKNOWN, size)``.

        Raises:
            SchemaError: The values are not strings.
        """
        if pa.types.is_dictionary(array.type):
            known = np.append(self.encode(column, array.dictionary), np.int32(UNKNOWN))
            return known[pc.fill_null(array.indices.cast(pa.int32()), len(known) - 1).to_numpy(zero_copy_only=False)]
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_null(array.type)):
            raise SchemaError(f"the values of {column!r} have the type {array.type}; strings are expected.")
        if column in self.buckets:
            return _hashed(array, self.buckets[column])
        known_values = pa.array(self.values[column], array.type)
        places = pc.index_in(array, value_set=known_values, skip_nulls=True)
        return pc.fill_null(places, UNKNOWN - SPECIAL_COUNT).to_numpy(zero_copy_only=False) + np.int32(SPECIAL_COUNT)

    @property
    def content_hash(self) -> str:
        """64 hexadecimal digits, equal exactly when all columns, values and their order are."""
        return hashlib.sha256(json.dumps(self.to_json(), ensure_ascii=True).encode()).hexdigest()

    def to_json(self) -> dict[str, list[str] | int]:
        """A list of values or a number of buckets by column; the order of columns and values is part of it."""
        known = {column: list(values) for column, values in self.values.items()}
        return known | dict(self.buckets)

    @classmethod
    def from_json(cls, tree: Any) -> Vocabulary:
        """What `to_json` gave.

        Raises:
            ArtifactError: The tree is not a vocabulary.
        """
        if not isinstance(tree, dict) or not all(map(_is_coding, tree.values())):
            raise ArtifactError("the vocabulary is not a mapping of columns to lists of texts or numbers of buckets.")
        known = {column: tuple(coding) for column, coding in tree.items() if isinstance(coding, list)}
        return cls(known, {column: coding for column, coding in tree.items() if isinstance(coding, int)})


def _is_coding(coding: Any) -> bool:
    if isinstance(coding, list):
        return all(isinstance(value, str) for value in coding)
    return isinstance(coding, int) and not isinstance(coding, bool) and coding > 0


def _hashed(array: pa.Array, buckets: int) -> npt.NDArray[np.int32]:
    """Numbers of a hashed column's values, (N,): the same on every machine, in every release."""
    numbers = buckets_of(pc.fill_null(array.cast(pa.large_string()), ""), buckets) + np.int32(SPECIAL_COUNT)
    numbers[pc.is_null(array).to_numpy(zero_copy_only=False)] = UNKNOWN
    return numbers


class ValueCounts:
    """Counts the values of each column over batches; memory grows with distinct values, not with events."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._counts: dict[str, Counter[str]] = {column: Counter() for column in columns}

    def add(self, column: str, array: pa.Array) -> None:
        """Count one batch's values of a column; nulls do not count."""
        counted = pc.value_counts(array.drop_null())
        values = counted.field("values")
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        self._counts[column].update(dict(zip(values.to_pylist(), counted.field("counts").to_pylist(), strict=True)))

    def vocabulary(self, min_count: int, max_size: int, buckets: Mapping[str, int] | None = None) -> Vocabulary:
        """Values seen at least `min_count` times, `max_size` a column at most: most frequent first, then by name.

        Args:
            min_count: Times that a value must have been seen.
            max_size: Most values a column.
            buckets: Of further columns, which are hashed.
        """
        chosen = {}
        for column, counts in self._counts.items():
            frequent = sorted((-count, value) for value, count in counts.items() if count >= min_count)
            chosen[column] = tuple(value for _, value in frequent[:max_size])
        return Vocabulary(chosen, buckets or {})
