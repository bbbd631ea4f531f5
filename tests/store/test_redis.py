"""The Redis store: which rows go online, both layouts through all of Feast's calls, and logins."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from feast import ValueType
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.utils import _convert_arrow_to_proto
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_rows import (
    FEATURES,
    LAYOUTS,
    batch_of,
    lookup_of,
    on_the_loop,
    read,
    redis_config,
    rows_of,
    said,
    small_view,
    write,
)
from redis_world import Proxy, redis_server, tls_certificate

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.redis import ArrowRedisOnlineStore, ArrowRedisOnlineStoreConfig
from segmenter_plugin.store.redis_write import PIECE_ROWS
from segmenter_plugin.store.rows import EncodedRows, encode_rows

USERS = list(range(100))


@pytest.fixture(scope="module")
def server():
    with redis_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(server):
    with server.client() as client:
        client.flushall()


@pytest.fixture(params=LAYOUTS)
def config(request, server):
    return redis_config(server.address, layout=request.param)


def impatient(config):
    """A store that does not try again where redis-py would, for seconds."""
    store = ArrowRedisOnlineStore()
    store._get_client(config.online_store).set_retry(Retry(NoBackoff(), 0))
    return store


def messages(rows_batch):
    """A batch as Feast's own engine hands it to a store."""
    return _convert_arrow_to_proto(rows_batch, small_view(), {"user_id": ValueType.INT64})


def test_written_rows_are_read_and_missing_users_are_missing(config):
    rows = rows_of(USERS, 7)
    assert write(config, rows) == 100
    assert said(config, rows) == [7] * 100
    assert said(config, rows_of([1, 5_000, 2], 0)) == [7, None, 7]
    assert read(config, rows_of([], 0)).event_times == ()


def test_several_views_come_in_one_go_in_the_order_asked(config):
    for number, name in enumerate(("one", "two", "three")):
        write(config, rows_of(USERS, number), view=small_view(name))
    ask = rows_of([3, 1, 3, 999], 0)
    lookups = [lookup_of(ask, ("visits",), name) for name in ("three", "one")] + [lookup_of(rows_of([], 0))]
    three, one, none = ArrowRedisOnlineStore().fetch(config, lookups)
    assert [cell and cell[1] for cell in three.cells[0]] == [2, 2, 2, None]
    assert [cell and cell[1] for cell in one.cells[0]] == [0, 0, 0, None]
    assert none.cells == [(), (), (), ()]


def test_keys_of_different_lengths_are_told_apart(config):
    view = small_view(key=ValueType.STRING)
    users = ["a", "bb", "", "ünï", "x" * 300]
    write(config, *(encode_rows(batch_of([user], i, key=pa.string()), view) for i, user in enumerate(users)), view=view)
    rows = encode_rows(batch_of([*reversed(users), "c"], 0, key=pa.string()), view)
    assert said(config, rows) == [4, 3, 2, 1, 0, None]


@pytest.mark.parametrize("count", [1, PIECE_ROWS - 1, PIECE_ROWS, 3 * PIECE_ROWS + 5])
def test_any_number_of_rows_goes_online_and_only_newer_ones_after(config, count):
    users = list(range(count))
    assert write(config, rows_of(users, 1, day=1)) == count
    assert write(config, rows_of(users, 2, day=0.5)) == 0
    assert write(config, rows_of(users[::3], 3, day=2)) == len(users[::3])
    assert write(config, rows_of(users, 4, day=1.5)) == count - len(users[::3])
    assert said(config, rows_of(users, 0)) == [3 if user % 3 == 0 else 4 for user in users]


def test_a_corrected_row_of_the_same_time_goes_online_unless_stock_s_rule_is_asked_for(config, server):
    write(config, rows_of(USERS, 1))
    assert write(config, rows_of(USERS, 2)) == 100
    assert write(config, rows_of(USERS, 3), strict_stock=True) == 0
    layout = config.online_store.layout
    assert write(redis_config(server.address, layout=layout, strict_stock=True), rows_of(USERS, 4)) == 0
    assert set(said(config, rows_of(USERS, 0))) == {2}
    assert write(redis_config(server.address, layout=layout, skip_dedup=True), rows_of(USERS, 5, day=-1)) == 100
    assert set(said(config, rows_of(USERS, 0))) == {5}


def test_rows_up_to_1970_are_kept_apart_by_their_time(config):
    epoch = -1_700_000_000 / 86_400
    before = rows_of([1], 1, day=epoch - 400)
    assert write(config, before) == 1
    assert write(config, rows_of([1], 2, day=epoch)) == 1
    assert write(config, before) == 0
    assert said(config, before) == [2]
    assert write(config, before, strict_stock=True) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_expire_with_the_ttl_of_the_store(layout, server):
    write(redis_config(server.address, layout=layout, key_ttl_seconds=500), rows_of(USERS, 1))
    with server.client() as client:
        assert {490 < client.ttl(key) <= 500 for key in client.scan_iter()} == {True}


def test_feast_s_own_calls_work_on_both_layouts(config):
    store, view = ArrowRedisOnlineStore(), small_view()
    data = messages(batch_of(USERS, 6))
    store.online_write_batch(config, view, data, None)
    keys = [key for key, *_ in data[:3]]
    newer = messages(batch_of([2], 8, day=1))
    _, asynchronous = on_the_loop(
        store,
        lambda: store.online_write_batch_async(config, view, newer, None),
        lambda: store.online_read_async(config, view, keys, ["visits", "segment"]),
    )
    answers = store.online_read(config, view, keys, ["visits", "segment"])
    assert asynchronous == answers
    assert [values["visits"].int64_val for _, values in answers] == [6, 6, 8]
    assert [list(values) for _, values in answers] == [["visits", "segment"]] * 3
    assert answers[2][0] - answers[1][0] == timedelta(days=1)
    whole = store.online_read(config, view, keys[:1])
    assert list(whole[0][1]) == list(FEATURES)


def test_a_missing_user_is_to_online_read_what_it_is_in_stock(config, server):
    (key, *_) = messages(batch_of([404], 0))[0]
    stock = RedisOnlineStore().online_read(redis_config(server.address, kind="redis"), small_view(), [key])
    assert ArrowRedisOnlineStore().online_read(config, small_view(), [key]) == stock
    assert stock[0][0] == datetime(1970, 1, 1, tzinfo=UTC)


def test_the_same_is_fetched_on_the_event_loop(config):
    rows = rows_of([*USERS, 999], 3)
    write(config, rows_of(USERS, 3))
    lookups = [lookup_of(rows), lookup_of(rows_of([], 0)), lookup_of(rows, ("visits", "score"))]
    store = ArrowRedisOnlineStore()
    (fetched,) = on_the_loop(store, lambda: store.fetch_async(config, lookups))
    assert [list(map(list, view.cells)) for view in fetched] == [
        list(map(list, view.cells)) for view in store.fetch(config, lookups)
    ]


def test_rows_with_some_of_the_features_leave_the_others(config):
    write(config, rows_of([1, 2], 5))
    some = rows_of([2, 3], 6, day=1)
    some = EncodedRows(some.keys, {"visits": some.values["visits"]}, some.event_times, None)
    assert write(config, some) == 2
    found = read(config, rows_of([1, 2, 3], 0))
    assert [bool(cell) for cell in found.cells[0]] == [True, True, False]
    assert [cell[1] for cell in found.cells[2]] == [5, 6, 6]


def test_a_feature_added_to_the_view_is_missing_in_older_rows(config):
    old = rows_of([1], 5)
    less = EncodedRows(old.keys, {name: old.values[name] for name in FEATURES[:2]}, old.event_times, None)
    small = small_view()
    small.features[:] = small.features[:2]
    write(config, less, view=small)
    write(config, rows_of([2], 6))
    found = read(config, rows_of([1, 2], 0))
    assert [bool(cell) for cell in found.cells[3]] == [False, True]
    assert all(map(bool, found.cells[0]))


def test_deleting_a_view_leaves_the_others_and_teardown_leaves_nothing_of_the_project(config, server):
    store = ArrowRedisOnlineStore()
    other = redis_config(server.address, layout=config.online_store.layout, project="my_shop")
    for place in (config, other):
        for name in ("one", "two", "one_more"):
            write(place, rows_of(USERS, 1), view=small_view(name))
    store.update(config, [small_view("one")], [], [], [], partial=False)

    def there(place, name):
        (found,) = store.fetch(place, [lookup_of(rows_of(USERS, 0), name=name)])
        return sum(time is not None for time in found.event_times)

    assert [there(config, name) for name in ("one", "two", "one_more")] == [0, 100, 100]
    if config.online_store.layout == "packed":  # stock's own scan takes "my_shop" for "shop"
        assert [there(other, name) for name in ("one", "two", "one_more")] == [100, 100, 100]
    store.teardown(config, [small_view("two")], [])
    assert [there(config, name) for name in ("one", "two", "one_more")] == [0, 0, 0]
    if config.online_store.layout == "packed":
        assert there(other, "two") == 100


def test_the_login_is_redis_py_s(tmp_path):
    with redis_server(requirepass="secret") as server:
        rows = rows_of(USERS, 1)
        right = redis_config(f"{server.address},password=secret,db=3")
        assert write(right, rows) == 100
        assert said(right, rows) == [1] * 100
        assert not server.dump(db=0)
        for wrong in (server.address, f"{server.address},password=wrong"):
            config = redis_config(wrong)
            for attempt in (write, read):
                with pytest.raises(StoreError, match=r"NOAUTH|refuses the login|WRONGPASS") as caught:
                    attempt(config, rows, store=impatient(config))
                assert "password=" in caught.value.hint
                assert "secret" not in str(caught.value)


def test_tls_is_redis_py_s(server, tmp_path):
    # The redis-server of these tests speaks no TLS itself; something in front of it does, as at many clouds.
    context, certificate = tls_certificate(tmp_path)
    with Proxy(server.port, tls=context) as proxy:
        rows = rows_of(list(range(5_000)), 1)
        trusting = redis_config(f"{proxy.address},ssl=true,ssl_ca_certs={certificate}")
        assert write(trusting, rows) == 5_000
        assert said(trusting, rows) == [1] * 5_000
        doubting = redis_config(f"{proxy.address},ssl=true")
        with pytest.raises(StoreError, match="certificate"):
            read(doubting, rows, store=impatient(doubting))


def test_resp3_is_understood(server):
    rows = rows_of(USERS, 1)
    for layout in LAYOUTS:
        config = redis_config(f"{server.address},protocol=3", layout=layout)
        assert write(config, rows) == 100
        assert said(config, rows_of([1, 999], 0)) == [1, None]


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="layout"):
        ArrowRedisOnlineStoreConfig(layout="columns")
    with pytest.raises(ValueError, match="pack"):
        ArrowRedisOnlineStoreConfig(pack=True)


def test_threads_share_a_store_while_it_is_written_and_see_whole_rows(config):
    store, users, view = ArrowRedisOnlineStore(), list(range(3_000)), small_view()
    write(config, rows_of(users, 0))
    stop, seen, errors = threading.Event(), set(), []

    def look(seed):
        chance = np.random.default_rng(seed)
        try:
            while not stop.is_set():
                asked = rows_of(chance.integers(0, len(users), 50).tolist(), 0)
                seen.update(said(config, asked, store=store))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test says so
            errors.append(error)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    with store.writer(config, view) as writer:
        for number in range(1, 13):
            writer.write(rows_of(users, number, day=number))
        writer.finish()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(seen) > 2
    assert said(config, rows_of(users, 0)) == [12] * len(users)
