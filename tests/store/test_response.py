"""Our response beside Feast's own, made of the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import read_world
from feast import ValueType
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from view_tables import ViewTable, view_tables

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.decode import Decoder
from segmenter_plugin.store.lookups import FetchedView
from segmenter_plugin.store.plan import ViewPlan
from segmenter_plugin.store.response import ArrowOnlineResponse, answered
from segmenter_plugin.store.rows import EncodedRows, encode_rows
from segmenter_plugin.store.wire import encode_times

SECOND = 1_000_000_000


def plan_of(view, ttl_nanos: int | None = None) -> ViewPlan:
    names = tuple(feature.name for feature in view.features)
    decoders = tuple(Decoder(feature.dtype.to_value_type()) for feature in view.features)
    return ViewPlan(view, view.name, view.name, 0, names, names, decoders, ttl_nanos)


def fetched_of(rows: EncodedRows, places: list[int | None]) -> FetchedView:
    """Those rows of a store, in any order; None: a user who is not there."""
    times = encode_times(rows.event_times)
    cells = [[None if i is None else column[i].as_py() for i in places] for column in rows.values.values()]
    return FetchedView(cells, [None if i is None else times[i].as_py() for i in places])


def stock_response(entities, key_types, plan: ViewPlan, fetched: FetchedView) -> OnlineResponse:
    """As Feast puts it together."""
    response = GetOnlineFeaturesResponse()
    for name, values in entities.items():
        response.metadata.feature_names.val.append(name)
        response.results.add(
            values=python_values_to_proto_values(values, key_types[name]),
            statuses=[FieldStatus.PRESENT] * len(values),
            event_timestamps=[Timestamp()] * len(values),
        )
    for name, cells in zip(plan.answers, fetched.cells, strict=True):
        response.metadata.feature_names.val.append(name)
        missing, present = FieldStatus.NOT_FOUND, FieldStatus.PRESENT
        response.results.add(
            values=[Value.FromString(cell or b"") for cell in cells],
            statuses=[missing if time is None else present for time in fetched.event_times],
            event_timestamps=[Timestamp.FromString(time or b"") for time in fetched.event_times],
        )
    types = {name: decoder.value_type for name, decoder in zip(plan.answers, plan.decoders, strict=True)}
    return OnlineResponse(response, types)


@st.composite
def answers(draw: st.DrawFn) -> tuple[ArrowOnlineResponse, OnlineResponse]:
    table: ViewTable = draw(view_tables(keys=1))
    rows = encode_rows(table.rows, table.view)
    places = draw(st.lists(st.none() | st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    fetched = fetched_of(rows, places)
    entities = {name: [values[i or 0] for i in places] for name, values in table.keys.items()}
    plan = plan_of(table.view)
    ours = ArrowOnlineResponse(entities, table.key_types, [answered(plan, fetched, 0)])
    return ours, stock_response(entities, table.key_types, plan, fetched)


@settings(max_examples=150)
@given(pair=answers())
def test_every_form_equals_feast_s(pair):
    ours, stock = pair
    assert ours.proto == stock.proto
    for timed in (False, True):
        # As text, because NaN differs from itself; the order of columns counts.
        assert repr(ours.to_dict(timed)) == repr(stock.to_dict(timed))
        assert list(ours.to_dict(timed)) == list(stock.to_dict(timed))
        assert repr(ours.to_df(timed).to_dict("list")) == repr(stock.to_df(timed).to_dict("list"))
        mine, theirs = ours.to_arrow(timed), stock.to_arrow(timed)
        assert mine.schema == theirs.schema
        assert repr(mine.to_pydict()) == repr(theirs.to_pydict())


@settings(max_examples=100)
@given(pair=answers())
def test_a_column_of_a_given_type_holds_the_same_values(pair):
    ours, stock = pair
    values = stock.to_dict()
    for name, value_type in ours.value_types().items():
        if value_type == ValueType.FLOAT_LIST:
            column = ours.column(name, pa.list_(pa.float32()))
            assert column.type == pa.list_(pa.float32())
            assert repr(column.to_pylist()) == repr(pa.array(values[name], column.type).to_pylist())


def users(*places: int | None, ttl: timedelta | None = None, now: datetime = read_world.NOON) -> ArrowOnlineResponse:
    """Rows 0, 1 and 2 of `tastes`, each a day older than the one before."""
    view = read_world.declared()["tastes"]
    batch = read_world.tastes_batch(["a", "b", "c"])
    rows = encode_rows(batch, view)
    rows = EncodedRows(rows.keys, rows.values, rows.event_times - np.arange(3) * 86_400 * SECOND, rows.created_times)
    nanos = None if ttl is None else int(ttl.total_seconds()) * SECOND
    fetched = fetched_of(rows, list(places))
    answer = answered(plan_of(view, nanos), fetched, int(now.timestamp()) * SECOND)
    ids = ["nobody" if i is None else "abc"[i] for i in places]
    return ArrowOnlineResponse({"user_id": ids}, {"user_id": ValueType.STRING}, [answer])


def test_a_missing_user_is_visibly_missing():
    response = users(0, None, 1)
    assert response.found.tolist() == [True, False, True]
    assert response.found_in["tastes"].tolist() == [True, False, True]
    assert [list(vector.statuses) for vector in response.proto.results[1:]] == [
        [FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.PRESENT]
    ] * 5
    embedding = response.to_numpy("embedding")
    assert embedding.shape == (3, 4)
    assert np.isnan(embedding).all(axis=1).tolist() == [False, True, False]
    assert response.to_dict()["embedding"][1] is None


def test_a_stored_null_is_present_and_a_feature_that_the_row_lacks_is_not_found():
    view = read_world.declared()["tastes"]
    row = fetched_of(encode_rows(read_world.tastes_batch(["a"]), view), [0])
    cells = [[b""], [None], *row.cells[2:]]
    response = ArrowOnlineResponse(
        {"user_id": ["a"]}, {"user_id": ValueType.STRING}, [answered(plan_of(view), FetchedView(cells, row[1]), 0)]
    )
    assert response.found.tolist() == [True]
    statuses = [vector.statuses[0] for vector in response.proto.results[1:]]
    assert statuses == [FieldStatus.PRESENT, FieldStatus.NOT_FOUND, *[FieldStatus.PRESENT] * 3]


def test_a_row_past_its_ttl_is_null_and_told_apart_from_a_missing_one():
    response = users(0, 1, 2, None, ttl=timedelta(days=1))
    assert response.found.tolist() == [True, True, False, False]
    for vector in response.proto.results[1:]:
        present, expired, missing = FieldStatus.PRESENT, FieldStatus.OUTSIDE_MAX_AGE, FieldStatus.NOT_FOUND
        assert list(vector.statuses) == [present, present, expired, missing]
        assert [value.WhichOneof("val") is None for value in vector.values][2:] == [True, True]
    assert response.to_dict()["visits"] == [0, 1, None, None]
    assert response.to_dict(include_event_timestamps=True)["visits__ts"][2] == 1506859200 - 2 * 86_400


def test_a_row_exactly_as_old_as_its_ttl_is_served():
    at = read_world.NOON + timedelta(days=1)
    assert users(0, ttl=timedelta(days=1), now=at).found.tolist() == [True]
    assert users(0, ttl=timedelta(days=1), now=at + timedelta(seconds=1)).found.tolist() == [False]


def test_staleness_is_in_seconds():
    stale = users(0, None, 2, ttl=timedelta(hours=1)).staleness(read_world.NOON + timedelta(minutes=1))["tastes"]
    assert stale.dtype == np.float64
    assert stale[[0, 2]].tolist() == [60.0, 60.0 + 2 * 86_400]
    assert np.isnan(stale[1])


def test_numbers_of_a_response():
    response = users(0, 2)
    assert response.to_numpy("embedding").dtype == np.float32
    assert response.to_numpy("visits").tolist() == [0.0, 2.0]
    assert np.isnan(response.to_numpy("spend")).tolist() == [False, True]


def test_an_unknown_feature_is_told():
    with pytest.raises(StoreError, match="no feature 'tastes__spend'; it holds") as caught:
        users(0).to_numpy("tastes__spend")
    assert caught.value.hint


def test_the_answer_does_not_change_with_what_the_caller_does_to_it():
    response = users(0, 1)
    first = response.to_dict()
    first["user_id"].append("c")
    first["embedding"][0].append(7.0)
    assert response.to_dict()["user_id"] == ["a", "b"]
    assert len(response.to_dict()["embedding"][0]) == 4
    assert response.proto is response.proto


def test_tensors():
    torch = pytest.importorskip("torch")
    tensors = users(0, 1).to_tensor()
    assert torch.equal(tensors["visits"].cpu(), torch.tensor([0, 1]))
    assert tensors["segment"] == ["größe-0", "größe-1"]
    assert tensors["seen"] == [datetime(2017, 10, 1, 12, tzinfo=UTC)] * 2
