"""A connection that comes back after a failure, and knows which server process is at its other end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry

from segmenter_plugin.store.lookups import StoreRestarted
from segmenter_plugin.store.redis_errors import raise_reply
from segmenter_plugin.store.resp import Channel, pack

logger = logging.getLogger(__name__)


@dataclass
class Process:
    """A running Redis server.

    Args:
        run_id: Another one after each start; None where the user may not ask.
        evicted_keys: How many keys it had dropped for want of memory when it was last asked.
    """

    run_id: bytes | None
    evicted_keys: int


class Processes:
    """The servers that a store writes to; behind an open socket it stays the same one, so that is asked once."""

    def __init__(self) -> None:
        self._by_socket: WeakKeyDictionary[Any, Process] = WeakKeyDictionary()
        self._last: dict[str, bytes] = {}

    def behind(self, socket: Any, channel: Channel, address: str) -> Process:
        """The process at the other end of a socket.

        Raises:
            StoreRestarted: It is another one than this store wrote to before.
        """
        process = self._by_socket.get(socket)
        if process is None:
            server, stats = info(channel, b"server", b"stats")
            process = Process(server.get(b"run_id"), int(stats.get(b"evicted_keys", 0)))
            self._by_socket[socket] = process
            self._note(process.run_id, address)
        return process

    def _note(self, run_id: bytes | None, address: str) -> None:
        """Notice a server that is not the one that this store wrote to before.

        Raises:
            StoreRestarted: It is another one, once.
        """
        if run_id is not None and self._last.setdefault(address, run_id) != run_id:
            self._last[address] = run_id
            logger.warning("Redis at %s was restarted or replaced since this process wrote to it.", address)
            raise StoreRestarted


class Line:
    """A connection of the pool, for one writer.

    Args:
        pool: Of redis-py.
        address: Of the server.
        processes: Known to the store.
        longest_wait_s: For one answer, where the configuration sets no ``socket_timeout``.
    """

    def __init__(self, pool: ConnectionPool, address: str, processes: Processes, longest_wait_s: float) -> None:
        self._pool, self._address, self._processes = pool, address, processes
        self._longest_wait_s = longest_wait_s
        self._connection: Any = None
        self._channel: Channel | None = None
        self._process: Process | None = None
        self._as_found: tuple[Any, float | None] = (None, None)
        #: Whether the process has acknowledged rows, which another one would lack.
        self.is_owed = False

    def channel(self) -> Channel:
        """The open connection, or a new one.

        Raises:
            StoreRestarted: The new one leads to another process than the one that acknowledged rows.
        """
        if self._channel is None:
            self._connect()
            self._channel = channel = Channel(self._connection)
            channel.limit_waits(self._connection.socket_timeout)
            before, self._process = self._process, self._processes.behind(channel.socket, channel, self._address)
            if self.is_owed and not _is_same(before, self._process):
                self.is_owed = False
                raise StoreRestarted
        return self._channel

    def _connect(self) -> None:
        if self._connection is None:
            self._connection = connection = self._pool.get_connection()
            self._as_found = (connection.retry, connection.socket_timeout)
            connection.retry = Retry(NoBackoff(), 0)  # whoever waits here is the writer
            connection.socket_timeout = connection.socket_timeout or self._longest_wait_s
        else:
            self._connection.connect()

    def newly_evicted(self) -> int:
        """Keys that Redis has dropped for want of memory since it was last asked."""
        channel = self.channel()
        (stats,) = info(channel, b"stats")
        evicted = int(stats.get(b"evicted_keys", 0))
        if self._process is None or evicted <= self._process.evicted_keys:
            return 0
        before, self._process.evicted_keys = self._process.evicted_keys, evicted
        return evicted - before

    def drop(self) -> None:
        """Close the connection; there may be unread replies on it."""
        self._channel = None
        if self._connection is not None:
            self._connection.disconnect()

    def close(self) -> None:
        """Give the connection back to the pool, as it was."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        connection.retry, connection.socket_timeout = self._as_found
        if self._channel is not None:
            self._channel.limit_waits(connection.socket_timeout)
        self._pool.release(connection)


def _is_same(before: Process | None, now: Process) -> bool:
    return before is not None and now.run_id is not None and before.run_id == now.run_id


def info(channel: Channel, *sections: bytes) -> list[dict[bytes, bytes]]:
    """Fields of sections of INFO; none where the user may not ask."""
    channel.send(b"".join(pack(b"INFO", section) for section in sections))
    return [_fields(reply) for reply in channel.receive(len(sections))]


def _fields(reply: Any) -> dict[bytes, bytes]:
    if isinstance(reply, Exception):
        if str(reply).startswith(("NOPERM", "ERR")):
            return {}
        raise_reply(reply)
    return dict(line.split(b":", 1) for line in reply.splitlines() if b":" in line)
