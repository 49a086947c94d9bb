"""Waiting for something outside this process, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

from reasoner.errors import CommandFailed

Answer = TypeVar("Answer")


class NotInTime(CommandFailed):
    """The condition did not hold before the deadline."""


def wait_until(condition: Callable[[], Answer], what: str, deadline_s: float, every_s: float = 0.2) -> Answer:
    """Ask again and again, at least once, and return the first answer that is true.

    what: the condition in words, with the place to look at where it does not hold. Raises NotInTime with it.
    """
    end_s = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > end_s:
            message = f"not within {deadline_s:.0f} s: {what}"
            raise NotInTime(message)
        time.sleep(every_s)
    return answer
