"""Redis' protocol for many rows at once: commands laid out by Arrow, replies taken by hiredis in bulk.

redis-py makes a list of Python objects a command. Here the commands of all rows are one buffer, which is sent as it is.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeAlias

import hiredis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from redis.exceptions import ConnectionError as RedisConnectionError

#: A piece of an argument: the same bytes in every row, or (N,) ``binary`` without nulls.
Part: TypeAlias = "bytes | pa.Array"

#: An argument of a command: its parts, one after another.
Argument: TypeAlias = "bytes | tuple[Part, ...]"

#: A command for each of N rows.
Command: TypeAlias = Sequence[Argument]

_EMPTY = pa.scalar(b"", pa.binary())
_READ_BYTES = 65_536
#: What hiredis answers when the next reply has not wholly arrived; not its default False, which equals the reply 0.
_INCOMPLETE = object()


def bulk(argument: bytes) -> bytes:
    """One argument, or one reply of bytes."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def pack(*arguments: bytes) -> bytes:
    """One command."""
    return b"*%d\r\n" % len(arguments) + b"".join(map(bulk, arguments))


def lay_out(commands: Sequence[Command]) -> pa.Array:
    """Write the commands of each row one after another.

    Args:
        commands: At least one column is among their parts.

    Returns:
        (N,) ``binary``.
    """
    pieces: list[pa.Array | pa.Scalar] = []
    constant = b""
    for command in commands:
        constant += b"*%d\r\n" % len(command)
        for argument in command:
            parts = (argument,) if isinstance(argument, bytes) else argument
            size = _size(parts)
            if isinstance(size, int):
                constant += b"$%d\r\n" % size
            else:
                pieces += [_scalar(constant + b"$"), size]
                constant = b"\r\n"
            for part in parts:
                if isinstance(part, bytes):
                    constant += part
                else:
                    pieces += [_scalar(constant), part]
                    constant = b""
            constant += b"\r\n"
    return join(*pieces, _scalar(constant))


def _size(parts: Sequence[Part]) -> int | pa.Array:
    """Bytes of an argument: one number where all rows agree, as most do, else (N,) decimal digits."""
    sizes: Any = sum(len(part) if isinstance(part, bytes) else byte_lengths(part) for part in parts)
    if isinstance(sizes, int):
        return sizes
    if len(sizes) and (sizes == sizes[0]).all():
        return int(sizes[0])
    return pa.array(sizes).cast(pa.string()).cast(pa.binary())


def byte_lengths(column: pa.Array) -> np.ndarray:
    """(N,) int32 lengths of (N,) ``binary``."""
    return pc.binary_length(column).to_numpy(zero_copy_only=False)


def join(*parts: pa.Array | pa.Scalar) -> pa.Array:
    """Element-wise concatenation of ``binary``, in C++ and without the interpreter's lock."""
    joined: Any = pc.binary_join_element_wise(*parts, _EMPTY)
    return joined


def joined(argument: Argument, rows: int) -> list[bytes]:
    """The values of an argument, for clients that take Python objects."""
    if isinstance(argument, bytes):
        return [argument] * rows
    return join(*(_scalar(part) if isinstance(part, bytes) else part for part in argument)).to_pylist()


def payload(commands: pa.Array) -> memoryview:
    """The bytes of (N,) ``binary`` without their boundaries, and without a copy."""
    _, offsets, data = commands.buffers()
    if not len(commands) or data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)[commands.offset : commands.offset + len(commands) + 1]
    return memoryview(data)[ends[0] : ends[-1]]


def _scalar(constant: bytes) -> pa.Scalar:
    return pa.scalar(constant, pa.binary())


class Channel:
    """The socket of a connection of redis-py, which has logged in and chosen its database, spoken to in raw bytes.

    redis-py's own reader costs more a reply than Redis spends on the command. Whatever goes wrong here leaves unread
    replies behind, so the owner of the connection must then disconnect it.
    """

    def __init__(self, connection: Any) -> None:
        self.socket = connection._sock  # noqa: SLF001 - redis-py offers no other way to it
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._buffer = bytearray(_READ_BYTES)
        self._pushes = str(connection.get_protocol()) == "3"

    def limit_waits(self, seconds: float) -> None:
        """Raise TimeoutError when the server takes nothing, or answers nothing, for so long."""
        self.socket.settimeout(seconds)

    def send(self, commands: bytes | memoryview) -> None:
        """Send all of it.

        Of what has been sent before, the caller keeps fewer replies unread than fit the receive buffer of a socket:
        something between us and Redis may stop to take commands while it cannot deliver replies.

        Raises:
            OSError: The connection broke.
        """
        self.socket.sendall(commands)

    def receive(self, count: int) -> list[Any]:
        """The next replies: bytes, int, None, list, or `hiredis.ReplyError` as an object.

        Raises:
            OSError: The connection broke.
            redis.ConnectionError: The server closed it.
            hiredis.ProtocolError: What came is not Redis' protocol.
        """
        replies: list[Any] = []
        while True:
            wanted = count - len(replies)
            arrived = list(islice(iter(self._reader.gets, _INCOMPLETE), wanted))
            taken = len(arrived)
            if self._pushes:  # news that nobody asked for, between the replies
                arrived = [reply for reply in arrived if not isinstance(reply, hiredis.PushNotification)]
            replies += arrived
            if len(replies) == count:
                return replies
            if taken == wanted:
                continue
            size = self.socket.recv_into(self._buffer)
            if not size:
                raise RedisConnectionError("Connection closed by server.")
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # any buffer will do
