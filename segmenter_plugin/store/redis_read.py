"""Reads rows of several views from a Redis server, in one go."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from redis.connection import ConnectionPool

from segmenter_plugin.store.lookups import FetchedView, ViewLookup
from segmenter_plugin.store.redis_errors import UNREACHABLE
from segmenter_plugin.store.redis_layouts import Layout, Piece
from segmenter_plugin.store.resp import Channel

#: What is sent at once: it fits the buffers between us and Redis while replies to the last lot are unread.
_LOT_BYTES = 49_152

#: Seconds for which a connection is used again without the pool's checks.
KEPT_S = 1.0

#: A pool with fewer connections than that gets each one back at once.
_ROOMY = 100

#: A lookup and the layout of its view.
Question = tuple[Layout, ViewLookup]


class Channels:
    """Connections of a pool that are kept at hand between lookups.

    The pool's own bookkeeping costs as much as a small lookup. What was used within `KEPT_S` goes on without it; after
    that the pool looks again whether the connection is whole, whose it is and where it leads. Only a plain pool without
    a limit is treated so: one of Sentinel follows the master, and of a small one each connection is needed.

    Args:
        pool: Of redis-py.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool
        self._keeps = type(pool) is ConnectionPool and pool.max_connections >= _ROOMY
        self._idle: deque[tuple[Any, Channel, float]] = deque()
        self._pid = os.getpid()

    def take(self) -> tuple[Any, Channel]:
        """A connection for one exchange."""
        if self._pid != os.getpid():  # after a fork the sockets are the parent's
            self._idle, self._pid = deque(), os.getpid()
        while self._idle:
            try:
                connection, channel, used = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - used < KEPT_S and connection._sock is channel.socket:  # noqa: SLF001 - as `Channel`
                return connection, channel
            self.pool.release(connection)
        connection = self.pool.get_connection()
        return connection, Channel(connection)

    def give_back(self, connection: Any, channel: Channel) -> None:
        """After all replies were read."""
        if self._keeps:
            self._idle.append((connection, channel, time.monotonic()))
        else:
            self.pool.release(connection)

    def drop(self, connection: Any) -> None:
        """After anything else: replies may be left on it, and what is at hand may be broken as well."""
        connection.disconnect()
        self.pool.release(connection)
        while self._idle:
            with suppress(IndexError):
                kept, _, _ = self._idle.pop()
                kept.disconnect()
                self.pool.release(kept)


def fetch(channels: Channels, questions: Sequence[Question]) -> list[FetchedView]:
    """Read rows over one connection; a second one where the first turns out to be broken.

    Raises:
        StoreError: Redis refuses, or a row is damaged.
        Exception: One of `UNREACHABLE`.
    """
    pieces = [[*layout.lookup(asked.keys, asked.features)] for layout, asked in questions]
    commands = [piece for own in pieces for piece in own]
    try:
        replies = _ask(channels, commands)
    except UNREACHABLE:
        replies = _ask(channels, commands)
    found, start = [], 0
    for (layout, asked), own in zip(questions, pieces, strict=True):
        end = start + sum(count for _, count in own)
        found.append(layout.found(replies[start:end], asked.features))
        start = end
    return found


def _ask(channels: Channels, pieces: Sequence[Piece]) -> list[Any]:
    connection, channel = channels.take()
    try:
        replies = _exchange(channel, [*_lots(pieces)])
    except BaseException:
        channels.drop(connection)
        raise
    channels.give_back(connection, channel)
    return replies


def _exchange(channel: Channel, lots: Sequence[Piece]) -> list[Any]:
    replies: list[Any] = []
    _send(channel, lots, 0)
    for i, (_, count) in enumerate(lots):
        _send(channel, lots, i + 1)
        replies += channel.receive(count)
    return replies


def _send(channel: Channel, lots: Sequence[Piece], i: int) -> None:
    if i < len(lots):
        channel.send(lots[i][0])


def _lots(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Small pieces together, so that a lookup in many views is one packet."""
    commands, count = b"", 0
    for more, replies in pieces:
        if commands and len(commands) + len(more) > _LOT_BYTES:
            yield commands, count
            commands, count = b"", 0
        commands, count = commands + more, count + replies
    if commands:
        yield commands, count
