"""What one of Feast's own online stores answered, read in the words of our response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from feast import ValueType

from segmenter_plugin.store.decode import number_array


class StockAnswer:
    """Values of N users.

    Args:
        values: For each feature (N,) values.
        types: Their Feast types.
    """

    def __init__(self, values: Mapping[str, list[Any]], types: Mapping[str, ValueType]) -> None:
        self._values = values
        self._types = types

    @property
    def found(self) -> np.ndarray:
        """(N,) bool: some feature has a value; Feast does not tell a missing user from one whose values are null."""
        columns = [[value is not None for value in self._values[name]] for name in self._types]
        return np.logical_or.reduce(columns)

    def column(self, feature: str, arrow_type: pa.DataType) -> pa.Array:
        """(N,) of that type."""
        return pa.array(self._values[feature], arrow_type)

    def to_numpy(self, feature: str) -> np.ndarray:
        """As `ArrowOnlineResponse.to_numpy`."""
        return number_array(self._values[feature], self._types[feature], feature)
