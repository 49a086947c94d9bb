"""The `reasoner` command: a word on the command line in, the sub-command's module imported and run."""

import sys

from reasoner.errors import CommandFailed, WrongUse
from reasoner.extras import require
from state_schemas.contracts.settings import BadConfig

__all__ = ["main"]


def main() -> None:
    """Entry point. Exit codes: 0 ok, 1 something was found to be wrong, 2 wrong use, 130 interrupted."""
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
