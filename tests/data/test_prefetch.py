"""Reading ahead: order, bounds, errors, and no thread that stays behind."""

import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from reconjax.data.prefetch import IN_FLIGHT, Pace, prefetch


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    deadline = time.monotonic() + 10
    while readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert readers() == []


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "reconjax-prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_items_come_in_order(depth, count):
    with prefetch(iter(range(count)), depth) as ahead:
        assert list(ahead) == list(range(count))
    assert readers() == []


def test_items_are_read_in_another_thread_and_not_further_than_the_depth():
    begun, threads = [], set()

    def items():
        for item in range(10):
            begun.append(item)
            threads.add(threading.current_thread().name)
            yield item

    with prefetch(items(), depth=2) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 10
        while len(begun) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert begun == [0, 1, 2, 3]  # one taken, two waiting, one in the reader's hand
        assert list(ahead) == list(range(1, 10))
    assert threads == {"reconjax-prefetch"}


class Odd(Exception):
    """An error of the data's own."""


@pytest.mark.parametrize("error", [Odd("some"), ValueError("some"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 1, 7])
def test_an_error_is_raised_as_it_is_after_the_items_before_it(error, after):
    def items():
        yield from range(after)
        raise error

    taken = []
    with pytest.raises(type(error)) as caught, prefetch(items()) as ahead:
        taken.extend(iter(lambda: next(ahead), None))
    assert caught.value is error
    assert taken == [] or taken == list(range(after))
    assert readers() == []


def test_what_is_no_iterable_is_an_error_of_its_own():
    with pytest.raises(TypeError, match="not iterable"), prefetch(3) as ahead:
        next(ahead)


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("error", [None, Odd, KeyboardInterrupt])
def test_the_thread_ends_with_a_consumer_that_stops_early(taken, error):
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    def consume():
        with prefetch(items()) as ahead:
            for _ in range(taken):
                next(ahead)
            if error:
                raise error

    if error:
        with pytest.raises(error):
            consume()
    else:
        consume()
    assert readers() == []
    assert closed.is_set() or taken == 0  # a generator that was never begun has nothing to close


def test_the_thread_ends_although_an_error_waits_in_the_queue():
    def items():
        yield from range(3)
        raise Odd

    with prefetch(items()) as ahead:
        next(ahead)
        time.sleep(0.05)
    assert readers() == []


@pytest.fixture
def interruptible():
    """A shell lets what it starts in the background ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of a thread")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_reaches_a_consumer_that_waits():
    release = threading.Event()

    def items():
        yield 0
        release.wait(10)

    def interrupt():
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        release.set()

    thread = threading.Thread(target=interrupt)
    start = time.monotonic()
    thread.start()
    with pytest.raises(KeyboardInterrupt), prefetch(items()) as ahead:
        list(ahead)
    thread.join()
    assert time.monotonic() - start < 8
    assert readers() == []


def test_a_reader_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr("reconjax.data.prefetch.PATIENCE", 0.1)
    release = threading.Event()

    def items():
        yield 0
        release.wait(10)

    with prefetch(items()) as ahead:
        next(ahead)
    (reader,) = readers()
    assert reader.daemon
    release.set()


def test_the_depth_is_checked():
    with pytest.raises(ValueError, match="depth: 0; it must be at least 1"), prefetch([], 0):
        pass


@pytest.mark.parametrize("x64", [False, True])
def test_jax_settings_of_the_caller_hold_in_the_reader(x64):
    device = jax.devices()[2]
    arrays = (jnp.arange(3.0) for _ in range(2))
    with jax.enable_x64(x64), jax.default_device(device), prefetch(arrays) as ahead:
        found = list(ahead)
    assert {array.dtype for array in found} == {jnp.dtype("float64" if x64 else "float32")}
    assert {each for array in found for each in array.devices()} == {device}


def test_a_device_gets_no_more_than_a_few_batches():
    class Token:
        waited = 0

        def block_until_ready(self):
            Token.waited += 1

    pace = Pace()
    for k in range(10):
        pace.wait()
        pace.started(Token())
        assert k + 1 - Token.waited <= IN_FLIGHT
