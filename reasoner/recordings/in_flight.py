"""A bound on the bytes that were sent and are not confirmed: the sender waits, the confirming thread frees room."""

import threading

__all__ = ["InFlightBytes"]


class InFlightBytes:
    """A bound on unconfirmed bytes. Thread-safe. kafka-python 3 has no such bound (2.x had `buffer_memory`).

    The caller of `take` must make sure that each `take` is followed by one `give_back` or `fail` in bounded time.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used_bytes = 0
        self._failure: Exception | None = None
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until `size` more bytes fit; a message larger than the bound is sent alone. Raises the first failure."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._has_room(size))
            self._used_bytes += size
        self.raise_failure()

    def give_back(self, size: int) -> None:
        """Free `size` bytes after they were confirmed."""
        with self._changed:
            self._used_bytes -= size
            self._changed.notify()

    def fail(self, failure: Exception) -> None:
        """Record a failure: from now on `take` and `raise_failure` raise the first one."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify()

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _has_room(self, size: int) -> bool:
        return self._used_bytes == 0 or self._used_bytes + size <= self._bytes_max
