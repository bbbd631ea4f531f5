"""Writes rows to a Redis server as fast as it takes them, and through its absences.

Of each piece of rows the stored times are asked first; meanwhile the commands that would write it are laid out, and the
piece before it is written. A piece counts once all its replies have come.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from segmenter_plugin.store.lookups import StoreRestarted
from segmenter_plugin.store.redis_errors import LOGIN_REFUSED, UNREACHABLE, checked, explained, unreachable
from segmenter_plugin.store.redis_layouts import Layout
from segmenter_plugin.store.redis_line import Line
from segmenter_plugin.store.resp import Channel, lay_out, payload
from segmenter_plugin.store.rows import EncodedRows

logger = logging.getLogger(__name__)

#: Which rows go online, from the stored and the new event times; see `redis_times`.
Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Replies to so many questions, some 20 bytes each, fit the receive buffer of a socket.
PIECE_ROWS = 2_048
PIECE_BYTES = 16 * 2**20

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Patience:
    """How long a server may be away.

    Args:
        retry_s: Seconds from the first failure on.
        address: Of the server, to name it.
    """

    def __init__(self, retry_s: float, address: str) -> None:
        self._retry_s, self.address = retry_s, address
        self.calm()

    def calm(self) -> None:
        """Something went well."""
        self._since: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def wait(self, error: Exception) -> None:
        """Sleep before another attempt, longer each time.

        Raises:
            StoreError: It has been long enough.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
            logger.warning("Redis at %s: %s; trying again for %.0f s", self.address, error, self._retry_s)
        left = self._since + self._retry_s - now
        if left <= 0:
            raise unreachable(self.address, error, self._retry_s) from error
        time.sleep(min(self._pause_s, left))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


class ServerWriter:
    """Writes rows of one view to one server.

    Args:
        line: To the server.
        layout: Of the view.
        rule: Which rows go online; None: all, unasked.
        patience: With the server.
    """

    def __init__(self, line: Line, layout: Layout, rule: Rule | None, patience: Patience) -> None:
        self._line, self._layout, self._rule, self._patience = line, layout, rule, patience

    def write(self, rows: EncodedRows) -> int:
        """Write rows and return once they are acknowledged.

        Returns:
            How many went online.

        Raises:
            StoreRestarted: Redis came back as another process: earlier rows may be lost.
            StoreError: It stays away, or refuses.
        """
        attempt = _Attempt(rows, self._layout, self._rule)
        while not attempt.is_done:
            done = attempt.acknowledged
            with self._mending():
                attempt.run(self._line.channel())
            if attempt.acknowledged > done:
                self._line.is_owed = True
                self._patience.calm()
        return attempt.online

    def finish(self) -> None:
        """See whether the same process still answers.

        Raises:
            StoreRestarted: It does not.
            StoreError: None does.
        """
        evicted = None
        while evicted is None:
            with self._mending():
                evicted = self._line.newly_evicted()
        # Asked again, it answers for what others have written meanwhile, too (Spark's tasks).
        self._line.is_owed = True
        if evicted:
            logger.warning(
                "Redis dropped %d keys for want of memory meanwhile; features of these users may be gone. "
                "Raise maxmemory, then materialise again.",
                evicted,
            )

    @contextmanager
    def _mending(self) -> Iterator[None]:
        """Wait after an error that passes, and leave what was not done to be done again."""
        with explained(self._patience.address):
            try:
                yield
            except StoreRestarted:
                raise
            except LOGIN_REFUSED:
                self._line.drop()
                raise
            except UNREACHABLE as error:
                self._line.drop()
                self._patience.wait(error)
            except BaseException:  # replies may be left unread
                self._line.drop()
                raise


class _Attempt:
    """Rows on their way: which pieces are acknowledged, and which rows went online."""

    def __init__(self, rows: EncodedRows, layout: Layout, rule: Rule | None) -> None:
        self._rows, self._layout, self._rule = rows, layout, rule
        size = rows.keys.nbytes + sum(column.nbytes for column in rows.values.values())
        self._step = max(1, min(PIECE_ROWS, PIECE_BYTES * len(rows) // max(size, 1)))
        self._went = np.zeros(len(rows), dtype=bool)
        self.acknowledged = 0

    @property
    def is_done(self) -> bool:
        return self.acknowledged >= len(self._rows)

    @property
    def online(self) -> int:
        return int(self._went.sum())

    def run(self, channel: Channel) -> None:
        """Write what is not acknowledged yet."""
        starts = range(self.acknowledged, len(self._rows), self._step)
        unread: deque[tuple[int, int]] = deque()  # of pieces that were sent: their end, and how many replies they have
        self._ask(channel, starts[0])
        for start in starts:
            self._ask(channel, start + self._step)
            piece = self._piece(start)
            writing = self._layout.writing(piece)
            commands = lay_out(writing)  # while Redis looks up and writes
            if len(unread) == 2:
                self._acknowledge(channel, *unread.popleft())
            goes = self._goes(channel, piece)
            channel.send(payload(commands if goes.all() else commands.filter(pa.array(goes))))
            self._went[start : start + len(piece)] |= goes
            unread.append((start + len(piece), int(goes.sum()) * len(writing)))
        for sent in unread:
            self._acknowledge(channel, *sent)

    def _piece(self, start: int) -> EncodedRows:
        return sliced(self._rows, start, self._step)

    def _ask(self, channel: Channel, start: int) -> None:
        if self._rule is not None and start < len(self._rows):
            channel.send(payload(lay_out([self._layout.asking(self._rows.keys.slice(start, self._step))])))

    def _goes(self, channel: Channel, piece: EncodedRows) -> np.ndarray:
        if self._rule is None:
            return np.ones(len(piece), dtype=bool)
        return self._rule(self._layout.answered(channel.receive(len(piece))), piece.event_times)

    def _acknowledge(self, channel: Channel, end: int, replies: int) -> None:
        checked(channel.receive(replies), self._layout.written)
        self.acknowledged = end


def sliced(rows: EncodedRows, start: int, length: int) -> EncodedRows:
    """`length` rows from `start` on, without a copy."""
    created = rows.created_times
    return EncodedRows(
        keys=rows.keys.slice(start, length),
        values={name: column.slice(start, length) for name, column in rows.values.items()},
        event_times=rows.event_times[start : start + length],
        created_times=None if created is None else created[start : start + length],
    )


def pieces(rows: EncodedRows, length: int) -> Iterator[EncodedRows]:
    """All rows, `length` at a time."""
    for start in range(0, len(rows), length):
        yield sliced(rows, start, length)
