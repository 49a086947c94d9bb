"""One service in one window, as detectors evaluate it."""

from typing import Generic, NamedTuple, TypeVar

A = TypeVar("A")


class ServiceWindow(NamedTuple, Generic[A]):
    """The aggregate of a service over event times in [start_ms, end_ms), epoch ms."""

    env: str
    service: str
    start_ms: int
    end_ms: int
    table: A
