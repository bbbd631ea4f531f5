"""Lookups through Feast's own calls: ours beside Feast's code over the same rows, and on the real stores."""

from __future__ import annotations

import asyncio
import threading
import warnings
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import read_world
from feast import FeatureService
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.utils import _convert_arrow_to_proto
from read_world import ArrowDictStore, AsyncDictStore, StockDictStore
from redis_world import redis_server

from segmenter_plugin.store.lookups import StoreRestarted
from segmenter_plugin.store.response import ArrowOnlineResponse

USERS = ["a", "b", "c", "d"]
SPENDING = ["tastes:spend", "tastes:embedding", "tastes:segment"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One dict of rows, a project that reads it with Feast's code, and two that read it with ours."""
    declared = read_world.declared()
    folder = tmp_path_factory.mktemp("reads")
    rows: read_world.Rows = {}
    stock = read_world.over(read_world.project(folder / "stock", *declared.values()), StockDictStore(rows))
    ours = read_world.over(read_world.project(folder / "ours", *declared.values()), ArrowDictStore(rows))
    async_ = read_world.over(read_world.project(folder / "async", *declared.values()), AsyncDictStore(rows))
    online = ours._get_provider().online_store
    read_world.put(online, ours.config, declared["tastes"], read_world.tastes_batch(USERS))
    read_world.put(online, ours.config, declared["prices"], read_world.prices_batch([1, 2, 3]))
    return SimpleNamespace(stock=stock, ours=ours, async_=async_, online=online, **declared)


def _both(world, features: Any, entity_rows: Any, **options: Any) -> tuple[OnlineResponse, OnlineResponse]:
    stock, ours = (store.get_online_features(features, entity_rows, **options) for store in (world.stock, world.ours))
    assert ours.to_dict() == stock.to_dict()
    return stock, ours


def _by_name(response: OnlineResponse) -> dict[str, Any]:
    return dict(zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True))


@pytest.mark.parametrize("full_feature_names", [False, True])
def test_a_service_over_two_entities(world, full_feature_names):
    asked = {"item_id": [3, 1, 9], "user_id": ["b", "nobody", "b"]}
    stock, ours = _both(world, world.service, asked, full_feature_names=full_feature_names)
    assert isinstance(ours, ArrowOnlineResponse)
    assert list(ours.to_dict())[:2] == list(stock.to_dict())[:2] == ["item_id", "user_id"]
    assert _by_name(ours) == _by_name(stock)
    assert ours.found_in["prices"].tolist() == [True, True, False]
    assert ours.found.tolist() == [True, True, True]


def test_features_come_in_the_order_asked(world):
    _, ours = _both(world, SPENDING, [{"user_id": "c"}, {"user_id": "a"}])
    assert list(ours.to_dict()) == ["user_id", "spend", "embedding", "segment"]


def test_a_lookup_is_one_round_to_the_store(world):
    before = world.online.fetches
    world.ours.get_online_features(world.service, {"user_id": USERS, "item_id": [1] * 4}).to_dict()
    assert world.online.fetches == before + 1


@pytest.mark.parametrize(
    "asked",
    [
        [],
        {"user_id": []},
        {"note": ["x"]},
        {"user_id": ["a", "b"], "note": ["x"]},
        [{"user_id": "a"}, {"user": "b"}],
        [{"user_id": "a"}, {"user_id": "b", "note": "x"}],
    ],
    ids=["no rows", "empty", "no key", "unequal", "keys differ", "one more"],
)
def test_what_feast_refuses_is_refused_as_feast_does(world, asked):
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever it is
        world.stock.get_online_features(SPENDING, asked)
    with pytest.raises(type(theirs.value)):
        world.ours.get_online_features(SPENDING, asked)


def test_values_that_feast_makes_fit_are_made_to_fit_alike(world):
    _both(world, SPENDING, {"user_id": [3.5, "a", 7]})
    _both(world, ["prices:price"], {"item_id": [np.int64(1), True, 2.0]})


@pytest.mark.parametrize("number", [2**70, "x"])
def test_a_key_of_the_wrong_kind_is_refused_as_feast_does(world, number):
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever it is
        world.stock.get_online_features(["prices:price"], {"item_id": [number]})
    with pytest.raises(type(theirs.value)):
        world.ours.get_online_features(["prices:price"], {"item_id": [number]})


def test_half_a_key_and_an_empty_key_are_refused(world):
    with pytest.raises(KeyError, match="item_id"):
        world.ours.get_online_features(["pairs:clicks"], {"user_id": ["a"]})
    with pytest.raises(ValueError, match="join key is null"):
        world.ours.get_online_features(SPENDING, {"user_id": ["a", None]})


@pytest.mark.parametrize(
    ("entity_rows", "options"),
    [
        ({"user_id": RepeatedValue(val=[Value(string_val="a"), Value(string_val="x")])}, {}),
        ({"user_id": [Value(string_val="b")]}, {}),
        ({"user_id": ["a"], "item_id": [2]}, {}),
        ({"user_id": ["a"]}, {"include_feature_view_version_metadata": True}),
    ],
    ids=["repeated value", "messages", "a foreign key", "with versions"],
)
def test_what_is_left_to_feast_gives_the_same_over_our_rows(world, entity_rows, options):
    stock, ours = _both(world, SPENDING, entity_rows, **options)
    assert not isinstance(ours, ArrowOnlineResponse)
    assert _by_name(ours) == _by_name(stock)
    assert ours.proto.metadata.feature_view_metadata == stock.proto.metadata.feature_view_metadata


def test_the_name_of_an_entity_still_does(world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _both(world, SPENDING, {"user": ["a", "b"]})


def test_a_precomputed_service_is_read_from_its_rows(world):
    for store in (world.stock, world.ours):
        store.apply([FeatureService(name="fast", features=[world.tastes], precompute_online=True)], partial=True)
    fast = world.ours.get_feature_service("fast")
    answer = world.ours.get_online_features(fast, {"user_id": ["a", "nobody"]})
    assert answer.found.tolist() == [True, False]


def test_async_reads_share_the_plan(world):
    async def read(store):
        return await store.get_online_features_async(world.service, {"user_id": ["a"], "item_id": [1]})

    response = asyncio.run(read(world.async_))
    assert isinstance(response, ArrowOnlineResponse)
    expected = world.stock.get_online_features(world.service, {"user_id": ["a"], "item_id": [1]}).to_dict()
    assert response.to_dict() == expected
    # Without an asynchronous client it is Feast's code.
    blocking = asyncio.run(read(world.ours))
    assert not isinstance(blocking, ArrowOnlineResponse)
    assert blocking.to_dict() == expected


def test_async_requests_that_are_left_to_feast(world):
    async def read(store):
        return await store.get_online_features_async(SPENDING, {"user_id": [Value(string_val="b")]})

    fetches = world.async_._get_provider().online_store.fetches
    response = asyncio.run(read(world.async_))
    assert response.to_dict() == asyncio.run(read(world.stock)).to_dict()
    assert world.async_._get_provider().online_store.fetches == fetches + 1


def test_threads_share_one_store(world):
    expected = world.ours.get_online_features(SPENDING, {"user_id": USERS}).to_dict()
    wrong: list[Any] = []

    def read() -> None:
        for _ in range(50):
            answer = world.ours.get_online_features(SPENDING, {"user_id": USERS}).to_dict()
            if answer != expected:
                wrong.append(answer)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class _Restarting(ArrowDictStore):
    """Loses what it has acknowledged, so many times."""

    def __init__(self, restarts: int) -> None:
        super().__init__({})
        self.restarts = restarts

    @contextmanager
    def writer(self, config, view, *, strict_stock=False):  # noqa: ARG002
        with super().writer(config, view) as writer:
            writer.finish = self._finish
            yield writer

    def _finish(self) -> None:
        if self.restarts:
            self.restarts -= 1
            self.rows.clear()
            raise StoreRestarted


def _messages(world):
    types = {"user_id": world.user.value_type}
    return _convert_arrow_to_proto(read_world.tastes_batch(USERS), world.tastes, types)


def test_a_push_is_written_again_when_the_server_restarts(world):
    store, written = _Restarting(restarts=2), []
    store.online_write_batch(world.ours.config, world.tastes, _messages(world), written.append)
    assert len(store.rows) == len(USERS)
    assert written == [len(USERS)]


def test_a_server_that_keeps_restarting_is_told(world):
    with pytest.raises(StoreRestarted):
        _Restarting(restarts=9).online_write_batch(world.ours.config, world.tastes, _messages(world), None)


@pytest.fixture(scope="module", params=["sqlite", "stock", "packed"])
def real(request, tmp_path_factory):
    """A project on one of our real stores with a ttl of a day that is enforced, and rows two days and a minute old."""
    folder = tmp_path_factory.mktemp(request.param)
    declared = read_world.declared(ttl=timedelta(days=1))
    with redis_server() as server:
        settings: dict[str, Any] = {
            "type": "segmenter_plugin.store.redis.ArrowRedisOnlineStore",
            "connection_string": server.address,
            "layout": request.param,
        }
        if request.param == "sqlite":
            settings = {"type": "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore", "path": str(folder / "o.db")}
        strict = read_world.project(folder / "strict", *declared.values(), **settings, enforce_ttl=True)
        lenient = read_world.project(folder / "lenient", *declared.values(), **settings)
        online = lenient._get_provider().online_store
        online.update(lenient.config, [], [declared["tastes"], declared["prices"]], [], [], partial=True)
        read_world.put(online, lenient.config, declared["tastes"], read_world.tastes_batch(USERS))
        read_world.put(online, lenient.config, declared["prices"], read_world.prices_batch([1, 2, 3]))
        yield SimpleNamespace(kind=request.param, strict=strict, lenient=lenient, **declared)


def test_a_real_store_answers_as_the_dict_does(real, world):
    for asked in ({"user_id": ["d", "nobody", "a", "d"], "item_id": [1, 9, 3, 3]}, {"user_id": ["b"], "item_id": [7]}):
        ours = real.lenient.get_online_features(real.lenient.get_feature_service("shelf"), asked)
        expected = world.ours.get_online_features(world.service, asked)
        assert isinstance(ours, ArrowOnlineResponse)
        assert ours.to_dict(True) == expected.to_dict(True)
        assert ours.proto == expected.proto


def test_a_real_store_answers_messages_as_values(real):
    fast = real.lenient.get_online_features(SPENDING, {"user_id": ["a", "nobody"]})
    slow = real.lenient.get_online_features(SPENDING, {"user_id": [Value(string_val=user) for user in ("a", "nobody")]})
    assert not isinstance(slow, ArrowOnlineResponse)
    assert slow.to_dict() == fast.to_dict()
    assert _by_name(slow) == _by_name(fast)


def test_ttl_is_enforced_where_the_configuration_says_so(real):
    features, outside = ["tastes:visits", "prices:price"], FieldStatus.OUTSIDE_MAX_AGE
    asked = {"user_id": ["a", "nobody"], "item_id": [1, 1]}
    assert real.lenient.get_online_features(features, asked).to_dict()["visits"] == [0, None]
    fast = real.strict.get_online_features(features, asked)
    messages = {"user_id": [Value(string_val=user) for user in asked["user_id"]], "item_id": asked["item_id"]}
    for response in (fast, real.strict.get_online_features(features, messages)):
        assert response.to_dict()["visits"] == [None, None]
        assert None not in response.to_dict()["price"]
        assert list(_by_name(response)["visits"].statuses) == [outside, FieldStatus.NOT_FOUND]
        assert list(_by_name(response)["price"].statuses) == [FieldStatus.PRESENT] * 2


def test_async_on_redis_equals_the_plain_call(real):
    if real.kind == "sqlite":
        pytest.skip("SQLite has no asynchronous client, in Feast neither")

    async def read():
        try:
            return await real.lenient.get_online_features_async(SPENDING, {"user_id": ["c", "nobody"]})
        finally:
            await real.lenient.close()

    response = asyncio.run(read())
    assert isinstance(response, ArrowOnlineResponse)
    assert response.to_dict() == real.lenient.get_online_features(SPENDING, {"user_id": ["c", "nobody"]}).to_dict()


def test_stock_sqlite_reads_the_same(real):
    if real.kind != "sqlite":
        pytest.skip("the equality of the layouts is tested with the stores")
    ours = real.lenient.get_online_features(SPENDING, {"user_id": USERS}).to_dict()
    stock = read_world.over(real.lenient, SqliteOnlineStore())
    try:
        assert stock.get_online_features(SPENDING, {"user_id": USERS}).to_dict() == ours
    finally:
        from segmenter_plugin.store.sqlite import ArrowSqliteOnlineStore

        read_world.over(real.lenient, ArrowSqliteOnlineStore())
