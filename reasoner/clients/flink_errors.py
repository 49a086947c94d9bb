"""Reasons in the stack traces of Flink."""

from typing import Final

_CAUSE: Final = "Caused by: "
_PROGRAM_ENDED: Final = "RuntimeException: Python process exits with code"
_NONE: Final = "no reason is known"
_PYTHON_TRACE: Final = "Traceback (most recent call last):"
_CHARS_MAX: Final = 300  # of a message
_STEPS: Final = (
    ("Max parallelism mismatch", "set engine.max_parallelism as it was when the savepoint was taken"),
    ("Failed to rollback to checkpoint/savepoint", "give the savepoint of a job that has the same stages"),
    ("file system implementation for scheme 's3'", "Flink's S3 file system is missing there: see docs/storage.md"),
    ("Cannot find checkpoint or savepoint", "check the path; `--savepoint latest` is where the last run ended"),
)


def causes(trace: str) -> list[str]:
    """Return the messages of the exceptions in a stack trace or an output, the innermost last; at least one.

    An error of Python behind them, as Flink quotes that of a worker, is the innermost. Without an exception they are
    the last lines that are no stack frame.
    """
    _, python, rest = trace.rpartition(_PYTHON_TRACE)
    if python and _CAUSE not in rest:
        error = next((line[:_CHARS_MAX] for line in rest.splitlines() if line and not line[0].isspace()), _NONE)
        return [error]
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    found = [_message(line.removeprefix(_CAUSE)) for line in lines if line.startswith(_CAUSE)]
    own = [cause for cause in found if not cause.startswith(_PROGRAM_ENDED)]
    if found and not own:  # the program has said why, before Flink's stack trace
        first = next(number for number, line in enumerate(lines) if line.startswith("at "))
        return lines[: max(0, first - 1)][-1:] or found
    found = own
    frames = ("at ", "...", "File ")
    return found or [line[:_CHARS_MAX] for line in lines if not line.startswith(frames)][-2:] or [_NONE]


def why(trace: str) -> str:
    """Return the innermost cause of a start that failed, with the next step where one is known."""
    found = causes(trace)
    step = next((step for text, step in _STEPS if any(text in cause for cause in found)), "")
    return f"{found[-1]}; {step}" if step else found[-1]


def _message(exception: str) -> str:
    """Return an exception without the package of its class."""
    name, colon, text = exception.partition(": ")
    message = f"{name.rpartition('.')[2]}{colon}{text}"
    return message if len(message) <= _CHARS_MAX else f"{message[:_CHARS_MAX]}…"
