"""The `reasoner` command: imports and runs the module of the sub-command that is named on the command line."""

import os
import sys
from io import TextIOWrapper
from types import TracebackType

# What is imported here cannot be interrupted with a sentence: the rest is imported inside `main`.


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 a check or an action failed, 2 wrong use, 130 interrupted.

    Errors are sentences; `--verbose` anywhere shows the traceback as well.
    """
    try:
        _run()
    except KeyboardInterrupt:
        print("reasoner: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        _flush()


def _run() -> None:
    from reasoner.errors import VERBOSE, CommandFailed, WrongUse
    from reasoner.extras import require
    from state_schemas.contracts.settings import BadConfig

    if VERBOSE not in sys.argv:
        sys.excepthook = _print_sentence
    sys.argv = [word for word in sys.argv if word != VERBOSE]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    try:
        require("local", "reasoner")
        from reasoner.commands import app

        app()
    except CommandFailed as failure:
        print(f"reasoner: {failure}", file=sys.stderr)
        raise SystemExit(failure.exit_code) from None
    except BadConfig as fault:
        print(f"reasoner: {fault}", file=sys.stderr)
        raise SystemExit(WrongUse.exit_code) from None


def _flush() -> None:
    """Write the rest of the output; a reader that has gone, such as `head`, does not need it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        if not isinstance(error, BrokenPipeError):
            raise


def _print_sentence(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an error that no command expected as one line, in place of its traceback."""
    from reasoner.errors import VERBOSE, sentence_of

    print(f"reasoner: {sentence_of(error)} (`{VERBOSE}` shows where)", file=sys.stderr)
