"""Waiting for a condition outside this process, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

from reasoner.errors import CommandFailed

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], what: str, deadline_s: float, every_s: float = 0.2) -> Answer:
    """Call `condition` repeatedly, at least once, and return its first answer that is true.

    what: the condition in words, with the place to look at if it does not become true; CommandFailed is raised with it.
    """
    end_s = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > end_s:
            message = f"not within {deadline_s:.0f} s: {what}"
            raise CommandFailed(message)
        time.sleep(every_s)
    return answer
