"""Connections that are kept at hand between lookups."""

from __future__ import annotations

import os

import pytest
from redis import BlockingConnectionPool, Redis
from redis_world import redis_server

from segmenter_plugin.store import redis_read
from segmenter_plugin.store.redis_read import Channels
from segmenter_plugin.store.resp import pack


@pytest.fixture(scope="module")
def server():
    with redis_server() as server:
        yield server


@pytest.fixture
def channels(server):
    with Redis(server.host, server.port) as client:
        yield Channels(client.connection_pool)


def ask(channels, *command):
    connection, channel = channels.take()
    channel.send(pack(*command))
    (reply,) = channel.receive(1)
    channels.give_back(connection, channel)
    return connection, reply


def test_the_same_connection_goes_on_and_threads_get_others(channels):
    first, reply = ask(channels, b"PING")
    assert reply == b"PONG"
    assert ask(channels, b"PING")[0] is first
    taken = [channels.take() for _ in range(3)]
    assert len({id(connection) for connection, _ in taken}) == 3


def test_after_a_failure_nothing_at_hand_is_used_again(channels):
    (kept, own), (broken, channel) = channels.take(), channels.take()
    channels.give_back(kept, own)
    channel.send(pack(b"PING"))  # its reply stays unread
    channels.drop(broken)
    assert kept._sock is None
    assert broken._sock is None
    assert sorted(map(id, channels.pool._available_connections)) == sorted([id(kept), id(broken)])
    assert ask(channels, b"ECHO", b"mine")[1] == b"mine"


def test_after_a_while_the_pool_looks_at_a_connection_again(channels, monkeypatch):
    monkeypatch.setattr(redis_read, "KEPT_S", 0.0)
    connection, _ = ask(channels, b"PING")
    connection.disconnect()
    assert ask(channels, b"ECHO", b"again")[1] == b"again"
    assert len(channels.pool._in_use_connections) == 1


def test_a_connection_that_was_closed_and_opened_by_others_is_not_taken_for_the_same(channels):
    connection, _ = ask(channels, b"PING")
    connection.disconnect()
    connection.connect()
    assert ask(channels, b"ECHO", b"new socket")[1] == b"new socket"


def test_a_small_pool_gets_its_connections_back_at_once(server):
    pool = BlockingConnectionPool(host=server.host, port=server.port, max_connections=1, timeout=0.1)
    channels = Channels(pool)
    assert ask(channels, b"PING")[1] == b"PONG"
    with Redis(connection_pool=pool) as client:
        assert client.ping()


def test_a_child_process_does_not_use_its_parent_s_sockets(channels):
    ask(channels, b"PING")
    (idle,) = channels._idle
    channels._pid = os.getpid() + 1  # as a fork leaves it
    connection, _ = channels.take()
    assert connection is not idle[0]
