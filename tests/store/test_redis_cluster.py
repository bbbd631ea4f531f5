"""The same store on a real cluster of three nodes."""

from __future__ import annotations

import threading

import pytest
from redis_rows import LAYOUTS, lookup_of, on_the_loop, read, redis_config, rows_of, said, small_view, write
from redis_world import redis_cluster, redis_server

from segmenter_plugin.store.lookups import StoreRestarted
from segmenter_plugin.store.redis import ArrowRedisOnlineStore

USERS = list(range(100))


@pytest.fixture(scope="module")
def server():
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster():
    with redis_cluster() as nodes:
        yield nodes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cluster_holds_the_same_and_answers_the_same(cluster, server, layout):
    address = ",".join(node.address for node in cluster)
    with server.client() as client:
        client.flushall()
    many = redis_config(address, redis_type="redis_cluster", layout=layout, key_ttl_seconds=1_000)
    one = redis_config(server.address, layout=layout)
    rows = rows_of(list(range(2_500)), 1, day=1)
    assert write(many, rows) == write(one, rows) == 2_500
    assert write(many, rows_of(USERS, 2)) == 0
    assert write(many, rows_of(USERS, 3, day=1)) == 100
    write(one, rows_of(USERS, 3, day=1))
    dumps = [node.dump() for node in cluster]
    assert all(dumps)
    held = {key: row for dump in dumps for key, row in dump.items()}
    assert {key: held[key] for key in server.dump()} == server.dump()
    with cluster[0].client() as client:
        key = next(iter(dumps[0]))
        assert 900 < client.ttl(key) <= 1_000
    store, asked = ArrowRedisOnlineStore(), rows_of([5, 999_999, 2_000], 0)
    assert said(many, asked, store) == [3, None, 1]
    ((fetched,),) = on_the_loop(store, lambda: store.fetch_async(many, [lookup_of(asked)]))
    assert fetched == read(many, asked, store=store)
    store.teardown(many, [small_view()], [])
    assert not any(node.dump() for node in cluster)


@pytest.mark.faults
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_node_that_restarts_empty_while_rows_are_written_is_noticed(layout):
    with redis_cluster() as nodes:
        address = ",".join(node.address for node in nodes)
        config = redis_config(address, redis_type="redis_cluster", layout=layout, retry_seconds=30)
        rows = rows_of(list(range(3_000)), 1)
        store = ArrowRedisOnlineStore()
        with store.writer(config, small_view()) as writer:
            assert writer.write(rows) == 3_000
            nodes[1].kill()
            threading.Timer(1, nodes[1].start).start()
            assert writer.write(rows) == 3_000
            with pytest.raises(StoreRestarted):
                writer.finish()
        assert write(config, rows, store=store) == 3_000
        assert set(said(config, rows, store)) == {1}
