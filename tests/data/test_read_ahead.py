"""Reading ahead gives the same items, and errors of either side end both."""

import signal
import threading
import time

import pytest

from segmenter_plugin.data.read_ahead import read_ahead


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_items_come_in_order_from_another_thread():
    threads = []

    def items():
        for i in range(50):
            threads.append(threading.current_thread().name)
            yield i

    with read_ahead(items(), depth=2) as ready:
        assert list(ready) == list(range(50))
    assert set(threads) == {"read-ahead"}


def test_no_more_is_drawn_than_may_wait():
    drawn = []

    def items():
        for i in range(20):
            drawn.append(i)
            yield i

    with read_ahead(items(), depth=2) as ready:
        next(ready)
        time.sleep(0.2)
        assert len(drawn) == 4  # one in use, two that wait, one in hand
        assert list(ready) == list(range(1, 20))


def test_what_drawing_raises_is_raised_where_the_item_would_have_come():
    def items():
        yield 1
        raise ValueError("half a file")

    used = []
    with pytest.raises(ValueError, match="half a file"), read_ahead(items(), depth=2) as ready:
        used += ready
    assert used in ([], [1])


def test_an_error_of_the_user_ends_the_drawing():
    drawn = []

    def items():
        for i in range(10_000):
            drawn.append(i)
            yield i

    def use():
        with read_ahead(items(), depth=2) as ready:
            next(ready)
            raise OSError("disk")

    started = time.monotonic()
    with pytest.raises(OSError, match="disk"):
        use()
    assert len(drawn) < 20
    assert time.monotonic() - started < 5


def test_leaving_early_is_no_error():
    with read_ahead(iter(range(100)), depth=1) as ready:
        assert next(ready) == 0


def test_an_error_has_the_traceback_of_the_thread():
    def items():
        yield 1
        raise ValueError("broken file")

    with pytest.raises(ValueError, match="broken file") as caught, read_ahead(items(), depth=2) as ready:
        list(ready)
    assert "items" in [entry.name for entry in caught.traceback]


def test_who_leaves_early_closes_the_source_in_its_own_thread():
    closed_in = []

    def items():
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread().name)

    with read_ahead(items(), depth=1) as ready:
        next(ready)
    assert closed_in == ["read-ahead"]


def test_an_interrupt_stops_a_chain_of_threads():
    """The signal meets the main thread while it waits for an item that takes long."""

    def slow():
        yield 1
        time.sleep(0.5)
        yield 2

    def chained():
        with read_ahead(slow(), depth=1) as ready:
            yield from ready

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt), read_ahead(chained(), depth=1) as ready:
            list(ready)
    finally:
        signal.signal(signal.SIGALRM, before)
