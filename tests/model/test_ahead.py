from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from segmenter_plugin.model.ahead import ahead


def running() -> int:
    return sum(thread.name == "segmenter-ahead" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(ahead(range(100))) == list(range(100))
    assert list(ahead([])) == []
    assert list(ahead(ahead(ahead(range(20), 1), 1), 1)) == list(range(20))
    assert running() == 0


def test_no_more_are_made_than_fit() -> None:
    made = []

    def source() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    stream = ahead(source(), depth=2)
    assert made == []
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) == 4  # one taken, two waiting, one for which there is no room
    stream.close()


def test_the_next_item_is_made_while_one_is_in_use() -> None:
    second = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    stream = ahead(source(), depth=1)
    next(stream)
    assert second.wait(timeout=10)
    stream.close()


def test_an_error_comes_in_its_turn_with_its_own_traceback() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken file")

    stream = ahead(source())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken file") as caught:
        next(stream)
    assert "source" in [entry.name for entry in caught.traceback]
    assert running() == 0


def test_who_stops_early_closes_the_source_in_its_own_thread() -> None:
    closed_in = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread().name)

    stream = ahead(source(), depth=1)
    next(stream)
    time.sleep(0.1)
    stream.close()
    assert closed_in == ["segmenter-ahead"]
    assert running() == 0


def test_an_interrupt_stops_a_chain_of_threads() -> None:
    """The signal meets the main thread while it waits for an item that takes long."""

    def source() -> Iterator[int]:
        yield 1
        time.sleep(0.5)
        yield 2

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(ahead(ahead(source())))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert running() == 0
