"""Feast's message is filled as Feast would fill it."""

from __future__ import annotations

import pytest
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from segmenter_plugin.store.response_message import fill_vector

CELLS = [Value(int32_val=1).SerializeToString(), None, b"", Value(string_val="x" * 40_000).SerializeToString()]
STATUSES = [FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.NULL_VALUE, FieldStatus.OUTSIDE_MAX_AGE]
TIMES = [Timestamp(seconds=7).SerializeToString(), None, b"", Timestamp(seconds=9, nanos=1).SerializeToString()]


@pytest.mark.parametrize("times", [0, 1, 40])
def test_a_vector_equals_one_put_together_from_messages(times):
    cells, statuses, event_times = CELLS * times, STATUSES * times, TIMES * times
    expected = GetOnlineFeaturesResponse.FeatureVector(
        values=[Value.FromString(cell or b"") for cell in cells],
        statuses=statuses,
        event_timestamps=[Timestamp.FromString(time or b"") for time in event_times],
    )
    vector = GetOnlineFeaturesResponse().results.add()
    fill_vector(vector, cells, statuses, event_times)
    assert vector == expected
