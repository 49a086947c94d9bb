"""Bound of bytes in flight: it is never exceeded, and no thread waits for bytes that will never be returned."""

from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from reasoner.recordings.in_flight import InFlightBytes

DEADLINE_S = 10.0
A_MOMENT_S = 0.05  # long enough for a thread that does not wait to finish


def start(pool: ThreadPoolExecutor, room: InFlightBytes, size: int) -> "Future[None]":
    return pool.submit(room.take, size)


def is_waiting(future: "Future[None]") -> bool:
    return not wait([future], timeout=A_MOMENT_S).done


def test_a_taker_waits_until_its_bytes_fit() -> None:
    room = InFlightBytes(100)
    with ThreadPoolExecutor(1) as pool:
        room.take(60)
        room.take(40)
        third = start(pool, room, 30)

        assert is_waiting(third)
        room.give_back(20)  # 20 free, 30 wanted
        assert is_waiting(third)
        room.give_back(10)
        third.result(DEADLINE_S)


def test_a_message_larger_than_the_bound_is_sent_alone() -> None:
    room = InFlightBytes(100)
    with ThreadPoolExecutor(1) as pool:
        room.take(1)
        large = start(pool, room, 500)

        assert is_waiting(large)
        room.give_back(1)
        large.result(DEADLINE_S)


def test_a_failure_ends_the_wait_and_the_first_one_is_raised() -> None:
    room = InFlightBytes(100)
    with ThreadPoolExecutor(1) as pool:
        room.take(100)
        second = start(pool, room, 1)
        room.fail(OSError("first"))
        room.fail(OSError("second"))

        with pytest.raises(OSError, match="first"):
            second.result(DEADLINE_S)
    with pytest.raises(OSError, match="first"):
        room.raise_failure()
