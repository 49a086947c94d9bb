"""A bound on the bytes that were sent and not confirmed: the sender waits for room, the confirming thread makes it."""

import threading

__all__ = ["InFlightBytes"]


class InFlightBytes:
    """kafka-python 3 keeps no such bound itself (2.x had `buffer_memory`). Thread-safe.

    Whoever calls `take` must make sure that each `take` is followed by one `give_back` or `fail` in bounded time.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used_bytes = 0
        self._failure: Exception | None = None
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until `size` more bytes fit; what is larger than the bound goes alone. Raises what failed before."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._has_room(size))
            self._used_bytes += size
        self.raise_failure()

    def give_back(self, size: int) -> None:
        """`size` bytes were confirmed."""
        with self._changed:
            self._used_bytes -= size
            self._changed.notify()

    def fail(self, failure: Exception) -> None:
        """Nothing more will fit: `take` and `raise_failure` raise the first failure from now on."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify()

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _has_room(self, size: int) -> bool:
        return self._used_bytes == 0 or self._used_bytes + size <= self._bytes_max
