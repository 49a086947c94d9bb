"""The `reasoner` command: imports and runs the module of the sub-command that is named on the command line."""

import sys

from reasoner.errors import CommandFailed, WrongUse
from reasoner.extras import require
from state_schemas.contracts.settings import BadConfig


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 a check or an action failed, 2 wrong use, 130 interrupted."""
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
