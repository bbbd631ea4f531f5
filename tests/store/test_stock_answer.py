"""A stock store's answer in the words of ours."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from feast import ValueType

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.stock_answer import StockAnswer

TYPES = {"embedding": ValueType.FLOAT_LIST, "visits": ValueType.INT64, "name": ValueType.STRING}


@pytest.fixture
def answer():
    values = {"embedding": [[0.5, 1.0], None, None], "visits": [3, 4, None], "name": [None, None, None]}
    return StockAnswer(values | {"user_id": ["a", "b", "c"]}, TYPES)


def test_a_user_of_nulls_counts_as_missing(answer):
    assert answer.found.tolist() == [True, True, False]


def test_numbers_and_columns(answer):
    assert np.array_equal(answer.to_numpy("embedding"), [[0.5, 1.0], [np.nan] * 2, [np.nan] * 2], equal_nan=True)
    assert answer.to_numpy("visits").dtype == np.float64
    assert answer.column("visits", pa.int64()).to_pylist() == [3, 4, None]
    with pytest.raises(StoreError, match="'name' is a STRING"):
        answer.to_numpy("name")
