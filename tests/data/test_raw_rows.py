"""Refused rows as JSON."""

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa

from segmenter_plugin.data.raw_rows import rows_as_json


def test_every_type_can_be_read():
    columns = {
        "text": ["ä\n"],
        "none": pa.array([None], pa.null()),
        "number": [7],
        "flag": [True],
        "fraction": [0.5],
        "broken": [float("nan")],
        "endless": [float("-inf")],
        "money": [Decimal("1.50")],
        "day": [date(2024, 5, 1)],
        "hour": pa.array([1], pa.time64("ns")),
        "at": pa.array([datetime(2024, 5, 1, 12, tzinfo=UTC)]),
        "nanos": pa.array([1_714_564_800_123_456_789], pa.timestamp("ns")),
        "bytes": [b"\xff"],
        "list": [["a", None]],
        "struct": [{"inner": float("inf")}],
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    }
    (text,) = rows_as_json(pa.table(columns))
    assert json.loads(text) == {
        "text": "ä\n",
        "none": None,
        "number": 7,
        "flag": True,
        "fraction": 0.5,
        "broken": "nan",
        "endless": "-inf",
        "money": "1.50",
        "day": "2024-05-01",
        "hour": time(0, 0).isoformat(),
        "at": "2024-05-01T12:00:00+00:00",
        "nanos": "2024-05-01T12:00:00.123456",
        "bytes": "/w==",
        "list": ["a", None],
        "struct": {"inner": "inf"},
        "map": [["k", 1]],
    }


def test_one_text_a_row_without_blanks():
    assert rows_as_json(pa.table({"a": [1, 2], "b": ["x", None]})) == ['{"a":1,"b":"x"}', '{"a":2,"b":null}']
    assert rows_as_json(pa.table({"a": pa.array([], pa.int64())})) == []
