"""Work done one step ahead, on a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

#: How long to wait for the other thread before looking again whether it waits for room, in seconds.
_PATIENCE_S = 0.02


class _End:
    """After the last item; with the error, where one ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def read_ahead(items: Iterator[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Let a thread draw items while earlier ones are being used.

    An error of either side ends the other: one raised while drawing is raised where its item would have come, and
    leaving the block early stops the thread after the item that it is at. The thread is gone when the block is left,
    and a generator's `finally` blocks have run. Two cores overlap where the work lets go of the interpreter, as
    reading, Arrow, numpy and torch do.

    Args:
        items: Drawn on the thread, nowhere else, and closed there, if it can be.
        depth: Items that wait at most; one more is being drawn.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def draw() -> None:
        end = _End()
        try:
            for item in items:
                ready.put(item)
                if stopped.is_set():
                    break
            if isinstance(items, Generator):
                items.close()
        except BaseException as error:  # noqa: BLE001 (raised again by the other thread)
            end = _End(error)
        ready.put(end)

    thread = threading.Thread(target=draw, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield _drawn(ready)
    finally:
        stopped.set()
        while thread.is_alive():
            _empty(ready)  # it may be waiting for room
            thread.join(_PATIENCE_S)


def _drawn(ready: queue.Queue[Item | _End]) -> Iterator[Item]:
    while True:
        item = ready.get()
        if not isinstance(item, _End):
            yield item
        elif item.error is not None:
            raise item.error
        else:
            return


def _empty(ready: queue.Queue[Item | _End]) -> None:
    while True:
        try:
            ready.get_nowait()
        except queue.Empty:
            return
