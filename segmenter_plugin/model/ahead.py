"""A stream that is made in a thread of its own, a few items ahead of whoever takes them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

#: How long a thread that waits for room takes to see that nobody will make any.
_PATIENCE_S = 0.05


@dataclass(frozen=True)
class _Made(Generic[Item]):
    item: Item


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None


def ahead(items: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """The same items in the same order, made in a thread while the ones before are still in use.

    Two cores overlap where the work lets go of the interpreter, as reading, Arrow, numpy and torch do. An error in the
    thread is raised here when its turn comes, with its own traceback. Whoever stops early (an error, Ctrl-C, `close`)
    stops the thread too, and waits for the item that it is at: a generator's `finally` blocks have run by then.

    Args:
        items: Iterated in the thread, and closed there; nothing starts before the first item is asked for.
        depth: Finished items that wait at most; one more is being made, so memory is bounded by ``depth + 2`` items.
    """
    made: Queue[_Made[Item] | _Ended] = Queue(depth)
    stopped = Event()
    thread = Thread(target=_make, args=(items, made, stopped), name="segmenter-ahead", daemon=True)
    thread.start()
    try:
        while isinstance(entry := made.get(), _Made):
            yield entry.item
            # Not kept alive while the next one is awaited.
            del entry
        if entry.error is not None:
            raise entry.error
    finally:
        stopped.set()
        with suppress(Empty):
            while True:
                made.get_nowait()
        thread.join()


def _make(items: Iterable[Item], made: Queue[_Made[Item] | _Ended], stopped: Event) -> None:
    stream, error = iter(items), None
    try:
        for item in stream:
            if not _put(made, _Made(item), stopped):
                break
    except BaseException as raised:  # noqa: BLE001 - raised again by whoever takes the items
        error = raised
    try:
        _close(stream)
    except BaseException as raised:  # noqa: BLE001
        error = error or raised
    _put(made, _Ended(error), stopped)


def _close(stream: Any) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def _put(made: Queue[Any], entry: object, stopped: Event) -> bool:
    """Wait for room; whether somebody still wants the entry."""
    while not stopped.is_set():
        with suppress(Full):
            made.put(entry, timeout=_PATIENCE_S)
            return True
    return False
