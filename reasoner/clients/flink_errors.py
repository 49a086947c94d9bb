"""Reasons in the stack traces of Flink."""

from typing import Final

_CAUSE: Final = "Caused by: "


def causes(trace: str) -> list[str]:
    """Return the messages of the exceptions in a stack trace or an output, the innermost last; at least one.

    Without an exception they are the last lines that are no stack frame.
    """
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    found = [_message(line.removeprefix(_CAUSE)) for line in lines if line.startswith(_CAUSE)]
    frames = ("at ", "...", "File ")
    return found or [line[:300] for line in lines if not line.startswith(frames)][-2:] or ["no reason is known"]


def _message(exception: str) -> str:
    """Return an exception without the package of its class."""
    name, colon, text = exception.partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{text}"[:300]
