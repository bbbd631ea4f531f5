"""Commands laid out by Arrow are those that redis-py would send; replies come out as Redis meant them."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import hiredis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from segmenter_plugin.store.resp import Channel, joined, lay_out, payload

_arguments = st.lists(
    st.one_of(
        st.binary(max_size=5).map(lambda constant: (constant,)), st.just(("column",)), st.just((b"a", "column", b"b"))
    ),
    min_size=1,
    max_size=5,
)


@given(
    commands=st.lists(_arguments, min_size=1, max_size=3),
    rows=st.lists(st.binary(max_size=12), min_size=1, max_size=6),
    cut=st.integers(0, 3),
)
def test_commands_are_what_redis_py_packs(commands, rows, cut):
    commands = [[(b"NAME",), *own, ("column",)] for own in commands]
    column = pa.array([b"x" * 9] * cut + rows, pa.binary()).slice(cut)
    laid_out = lay_out(
        [[tuple(column if part == "column" else part for part in argument) for argument in own] for own in commands]
    )
    expected = [
        b"".join(
            b"".join(
                Connection().pack_command(
                    *(b"".join(row if part == "column" else part for part in argument) for argument in own)
                )
            )
            for own in commands
        )
        for row in rows
    ]
    assert laid_out.to_pylist() == expected
    assert bytes(payload(laid_out)) == b"".join(expected)
    assert bytes(payload(laid_out.slice(1))) == b"".join(expected[1:])
    assert bytes(payload(laid_out.filter(pa.array(np.zeros(len(rows), bool))))) == b""


def test_arguments_become_python_s_for_other_clients():
    column = pa.array([b"1", b"22"], pa.binary())
    assert joined(b"GET", 2) == [b"GET", b"GET"]
    assert joined((b"<", column, b">"), 2) == [b"<1>", b"<22>"]


@pytest.fixture
def wire():
    """A channel, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    connection = SimpleNamespace(_sock=ours, get_protocol=lambda: 3)
    with ours, theirs:
        yield Channel(connection), theirs


def test_replies_of_every_kind_come_in_order_however_they_are_cut(wire):
    channel, server = wire
    replies = b":0\r\n:7\r\n$-1\r\n$3\r\na\r\n\r\n*2\r\n$1\r\nx\r\n$-1\r\n+OK\r\n-OOM too much\r\n"
    expected = [0, 7, None, b"a\r\n", [b"x", None], b"OK"]
    for cut in range(1, len(replies)):
        server.sendall(replies[:cut])
        got = []
        if cut > 4:
            got = channel.receive(1)
        server.sendall(replies[cut:])
        got += channel.receive(7 - len(got))
        assert got[:6] == expected
        assert isinstance(got[6], hiredis.ReplyError)
        assert str(got[6]) == "OOM too much"


def test_replies_of_the_next_command_wait_for_it(wire):
    channel, server = wire
    server.sendall(b":1\r\n:2\r\n:3\r\n")
    assert channel.receive(2) == [1, 2]
    assert channel.receive(1) == [3]
    assert channel.receive(0) == []


def test_news_between_the_replies_is_no_reply(wire):
    channel, server = wire
    server.sendall(b":1\r\n>2\r\n+invalidate\r\n*1\r\n+k\r\n:2\r\n>1\r\n+moving\r\n:3\r\n")
    assert channel.receive(3) == [1, 2, 3]


def test_a_poisoned_reply_and_a_closed_connection_are_errors(wire):
    channel, server = wire
    server.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(hiredis.ProtocolError):
        channel.receive(1)
    server.close()
    with pytest.raises(RedisConnectionError, match="closed"):
        Channel(SimpleNamespace(_sock=channel.socket, get_protocol=lambda: 2)).receive(1)
