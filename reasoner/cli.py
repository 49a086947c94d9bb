"""The `reasoner` command: imports and runs the module of the sub-command that is named on the command line."""

import sys
from types import TracebackType

from reasoner.errors import VERBOSE, CommandFailed, WrongUse, sentence_of
from reasoner.extras import require
from state_schemas.contracts.settings import BadConfig


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 a check or an action failed, 2 wrong use, 130 interrupted.

    Errors are sentences; `--verbose` anywhere shows the traceback as well.
    """
    if VERBOSE not in sys.argv:
        sys.excepthook = _print_sentence
    sys.argv = [word for word in sys.argv if word != VERBOSE]
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
    except KeyboardInterrupt:
        print("reasoner: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _print_sentence(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an error that no command expected as one line, in place of its traceback."""
    print(f"reasoner: {sentence_of(error)} (`{VERBOSE}` shows where)", file=sys.stderr)
