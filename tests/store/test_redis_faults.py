"""A Redis server that dies, stalls, fills up or lies: what is online equals a clean run, or the error says why."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_rows import LAYOUTS, lookup_of, redis_config, rows_of, small_view, write
from redis_world import HOST, Proxy, RedisServer, free_port, redis_server

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.lookups import StoreRestarted
from segmenter_plugin.store.redis import ArrowRedisOnlineStore

BATCHES = [rows_of(list(range(start, start + 3_000)), start) for start in range(0, 15_000, 3_000)]


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def clean(layout):
    """What is online after a run without faults."""
    with redis_server() as server:
        assert write(redis_config(server.address, layout=layout), *BATCHES) == 15_000
        return server.dump()


def store_for(config):
    """A store that leaves trying again to us."""
    store = ArrowRedisOnlineStore()
    store._get_client(config.online_store).set_retry(Retry(NoBackoff(), 0))
    return store


def materialise(config, before_batch=lambda _: None, store=None):
    """Write all batches as the engine does; how many restarts that took."""
    store = store or store_for(config)
    for restarts in range(5):
        try:
            with store.writer(config, small_view()) as writer:
                for number, rows in enumerate(BATCHES):
                    before_batch(number)
                    writer.write(rows)
                writer.finish()
        except StoreRestarted:
            continue
        return restarts
    raise AssertionError("it never came to an end")


def once(condition, deed):
    """A hook that does something the first time that the condition holds."""
    done = []

    def hook(*arguments):
        if not done and condition(*arguments):
            done.append(True)
            deed()

    return hook


@contextmanager
def behind(server, **options):
    with Proxy(server.port, **options) as proxy:
        yield proxy


def after_bytes(count, deed, answer=lambda data: data):
    """A proxy's hook that does something once so many bytes have passed."""
    passed = 0
    is_done = False

    def hook(data):
        nonlocal passed, is_done
        passed += len(data)
        if passed > count and not is_done:
            is_done = True
            deed()
            return answer(data)
        return data

    return hook


@pytest.mark.parametrize("persistence", [{}, {"appendonly": "yes", "appendfsync": "everysec"}], ids=["empty", "aof"])
def test_a_server_that_restarts_between_batches_ends_with_the_same_rows(layout, clean, persistence):
    with redis_server(**persistence) as server:
        restarts = materialise(
            redis_config(server.address, layout=layout), once(lambda number: number == 3, server.restart)
        )
        assert restarts == 1
        assert server.dump() == clean


@pytest.mark.faults
@pytest.mark.parametrize("count", [1_000, 400_000, 1_500_000])
def test_a_server_that_restarts_amid_a_batch_ends_with_the_same_rows(layout, clean, count):
    with redis_server() as server, behind(server, on_request=after_bytes(count, server.restart)) as proxy:
        restarts = materialise(redis_config(proxy.address, layout=layout))
        assert restarts == (count > 1_000_000)  # nothing of the first batch had been acknowledged
        assert server.dump() == clean


def test_a_restart_after_the_last_batch_is_noticed(layout, caplog):
    with redis_server() as server:
        config = redis_config(server.address, layout=layout)
        with store_for(config).writer(config, small_view()) as writer:
            writer.write(BATCHES[0])
            server.restart()
            with pytest.raises(StoreRestarted):
                writer.finish()
            assert "was restarted" in caplog.text
            writer.finish()  # asked again it answers for what is written from now on


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(layout, clean):
    with redis_server() as server, Proxy(server.port) as proxy:
        proxy.on_request = after_bytes(300_000, proxy.cut)
        assert materialise(redis_config(proxy.address, layout=layout)) == 0
        assert proxy.connections == 2
        assert server.dump() == clean


@pytest.mark.faults
def test_where_info_is_forbidden_a_cut_counts_as_a_restart(layout, clean):
    with redis_server() as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "writer", "on", ">secret", "~*", "+@all", "-info")
        with Proxy(server.port) as proxy:
            proxy.on_request = after_bytes(1_500_000, proxy.cut)
            config = redis_config(f"{proxy.address},username=writer,password=secret", layout=layout)
            assert materialise(config) == 1
        assert server.dump() == clean


@pytest.mark.faults
def test_a_forbidden_command_is_named_with_what_the_user_needs(layout):
    with redis_server() as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-hset", "-set")
        config = redis_config(f"{server.address},username=reader,password=secret", layout=layout)
        with pytest.raises(StoreError, match="NOPERM") as caught:
            write(config, BATCHES[0])
        assert "+hset" in caught.value.hint


def test_memory_that_ends_is_an_error_and_with_more_the_same_run_succeeds(layout, clean):
    with redis_server(maxmemory="4mb", maxmemory_policy="noeviction") as server:
        config = redis_config(server.address, layout=layout)
        with pytest.raises(StoreError, match="OOM") as caught:
            materialise(config)
        assert "raise maxmemory" in caught.value.hint
        assert 0 < len(server.dump()) < len(clean)
        with server.client() as client:
            client.config_set("maxmemory", "100mb")
        assert materialise(config) == 0
        assert server.dump() == clean


@pytest.mark.faults
def test_keys_that_redis_drops_for_memory_are_told(layout, caplog):
    with redis_server(maxmemory="4mb", maxmemory_policy="allkeys-lru") as server:
        with caplog.at_level(logging.WARNING):
            materialise(redis_config(server.address, layout=layout))
        assert "Raise maxmemory" in caplog.text


def poisoned(data):
    return b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + data


def another(data):
    return b":1\r\n" + data


def nothing(_):
    """Cuts the connection."""


@pytest.mark.faults
@pytest.mark.parametrize("answer", [poisoned, another, nothing])
def test_a_poisoned_reply_is_not_believed(layout, clean, answer):
    with redis_server() as server:
        hook = after_bytes(30_000, lambda: None, answer)
        with behind(server, on_reply=hook) as proxy:
            assert materialise(redis_config(proxy.address, layout=layout)) == 0
        assert server.dump() == clean


@pytest.mark.faults
def test_a_server_that_talks_nonsense_is_an_error_in_the_end(layout):
    with redis_server() as server, Proxy(server.port) as proxy:
        config = redis_config(proxy.address, layout=layout, retry_seconds=0.5)

        def write_through_nonsense():
            materialise(config, once(lambda number: number == 1, lambda: setattr(proxy, "on_reply", poisoned)))

        with pytest.raises(StoreError, match=r"does not answer, .*Protocol") as caught:
            write_through_nonsense()
        assert "connection_string" in caught.value.hint


@pytest.mark.faults
def test_a_stored_time_that_is_none_is_named(layout):
    if layout == "packed":
        pytest.skip("there the whole row is checked")
    with redis_server() as server:
        config = redis_config(server.address)
        write(config, BATCHES[0])
        with server.client() as client:
            client.hset(next(iter(server.dump())), "_ts:small", b"\xff\xff")
        with pytest.raises(StoreError, match="is no timestamp"):
            write(config, BATCHES[0])


@pytest.mark.faults
def test_a_server_that_is_away_for_a_while_is_waited_for(layout, clean):
    port = free_port()
    config = redis_config(f"{HOST}:{port}", layout=layout, retry_seconds=20)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(materialise(config)))
    thread.start()
    time.sleep(1)
    assert not ended
    with redis_server(port) as server:
        thread.join(timeout=20)
        assert ended == [0]
        assert server.dump() == clean


def test_a_server_that_stays_away_is_an_error_that_says_what_to_do(layout, caplog):
    config = redis_config(f"{HOST}:{free_port()}", layout=layout, retry_seconds=0.3)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"does not answer, .*Connection refused") as caught:
        materialise(config)
    assert 0.3 <= time.monotonic() - started < 5
    assert "start it" in caught.value.hint
    assert "trying again" in caplog.text
    with pytest.raises(StoreError, match="Connection refused") as caught:
        store_for(config).fetch(config, [lookup_of(BATCHES[0])])
    assert "start it" in caught.value.hint


@pytest.mark.faults
def test_a_frozen_server_does_not_hold_a_write_for_ever(layout, clean):
    with redis_server() as server:
        config = redis_config(f"{server.address},socket_timeout=0.5", layout=layout, retry_seconds=20)
        freeze = once(lambda number: number == 2, server.pause)
        threading.Timer(2, server.resume).start()
        assert materialise(config, freeze) == 0
        assert server.dump() == clean


@pytest.mark.faults
def test_a_server_that_is_a_replica_for_a_while_is_waited_for(layout, clean):
    with redis_server() as server:
        client = server.client()

        def promote():
            time.sleep(0.5)
            client.replicaof("NO", "ONE")

        def demote():
            client.replicaof(HOST, free_port())
            threading.Thread(target=promote).start()

        assert materialise(redis_config(server.address, layout=layout), once(lambda n: n == 1, demote)) == 0
        assert server.dump() == clean
        client.close()


@pytest.mark.faults
def test_reads_go_on_after_a_restart_with_the_same_store(layout):
    with redis_server(appendonly="yes", appendfsync="always") as server:
        config = redis_config(server.address, layout=layout)
        write(config, BATCHES[0])
        store, asked = ArrowRedisOnlineStore(), [lookup_of(BATCHES[0])]
        before = store.fetch(config, asked)
        server.restart()
        assert store.fetch(config, asked) == before


def test_a_read_over_a_connection_that_just_broke_is_repeated_once(layout):
    with redis_server() as server, Proxy(server.port) as proxy:
        config = redis_config(proxy.address, layout=layout)
        write(config, BATCHES[0])
        store, asked = ArrowRedisOnlineStore(), [lookup_of(BATCHES[0].take(np.arange(5)))]
        before = store.fetch(config, asked)
        proxy.on_reply = after_bytes(1, lambda: None, nothing)
        assert store.fetch(config, asked) == before
        proxy.on_reply = poisoned
        with pytest.raises(StoreError):
            store_for(config).fetch(config, asked)


@pytest.mark.faults
def test_a_slow_network_only_takes_longer(layout, clean):
    size = 3_000_000
    with redis_server() as server, Proxy(server.port, bytes_per_second=size) as proxy:
        started = time.monotonic()
        assert materialise(redis_config(proxy.address, layout=layout)) == 0
        assert time.monotonic() - started > 0.5
        assert server.dump() == clean


@pytest.mark.faults
def test_a_server_that_is_killed_again_and_again_ends_with_the_same_rows(layout, clean):
    with redis_server(appendonly="yes", appendfsync="everysec") as server:
        stop = threading.Event()

        def nuisance():
            while not stop.wait(0.15):
                server.restart(down_s=0.05)
                if len(restarts) > 12:
                    return
                restarts.append(1)

        restarts: list[int] = []
        thread = threading.Thread(target=nuisance)
        thread.start()
        config = redis_config(server.address, layout=layout)
        ends = 0
        while thread.is_alive() or not ends:
            try:
                materialise(config, lambda _: time.sleep(0.02))
                ends += 1
            except AssertionError:
                continue
        stop.set()
        thread.join()
        assert materialise(config) == 0
        assert server.dump() == clean


def test_the_world_itself_restarts(tmp_path):
    server = RedisServer(free_port(), tmp_path, {})
    server.start()
    with server.client() as client:
        first = client.info("server")["run_id"]
        server.restart()
        assert client.info("server")["run_id"] != first
    server.stop()


def test_a_restart_between_two_views_is_told(layout, caplog):
    with redis_server() as server:
        config = redis_config(server.address, layout=layout)
        store = store_for(config)
        write(config, BATCHES[0], view=small_view("first"), store=store)
        write(config, BATCHES[0], view=small_view("second"), store=store)
        assert "was restarted" not in caplog.text
        server.restart()
        with pytest.raises(StoreRestarted):
            write(config, BATCHES[0], view=small_view("third"), store=store)
        assert "was restarted or replaced since this process wrote to it" in caplog.text
        assert write(config, BATCHES[0], view=small_view("third"), store=store) == len(BATCHES[0])
