"""Reasons in the stack traces of Flink."""

from typing import Final

_CAUSE: Final = "Caused by: "
_PROGRAM_ENDED: Final = "RuntimeException: Python process exits with code"
_NONE: Final = "no reason is known"
_PYTHON_TRACE: Final = "Traceback (most recent call last):"


def causes(trace: str) -> list[str]:
    """Return the messages of the exceptions in a stack trace or an output, the innermost last; at least one.

    An error of Python behind them, as Flink quotes that of a worker, is the innermost. Without an exception they are
    the last lines that are no stack frame.
    """
    _, python, rest = trace.rpartition(_PYTHON_TRACE)
    if python and _CAUSE not in rest:
        error = next((line[:300] for line in rest.splitlines() if line and not line[0].isspace()), _NONE)
        return [error]
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    found = [_message(line.removeprefix(_CAUSE)) for line in lines if line.startswith(_CAUSE)]
    own = [cause for cause in found if not cause.startswith(_PROGRAM_ENDED)]
    if found and not own:  # the program has said why, before Flink's stack trace
        first = next(number for number, line in enumerate(lines) if line.startswith("at "))
        return lines[: max(0, first - 1)][-1:] or found
    found = own
    frames = ("at ", "...", "File ")
    return found or [line[:300] for line in lines if not line.startswith(frames)][-2:] or [_NONE]


def _message(exception: str) -> str:
    """Return an exception without the package of its class."""
    name, colon, text = exception.partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{text}"[:300]
