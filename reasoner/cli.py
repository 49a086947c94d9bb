"""The `reasoner` command: a word on the command line in, the sub-command's module imported and run."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from reasoner.errors import CommandFailed

__all__ = ["main"]

# One line per command: its name and the module that holds its typer `app`. Modules are imported when they are
# called, so that `reasoner stack status` does not pay for PyFlink or pyarrow.
COMMANDS = {
    "stack": "reasoner.commands.stack",
    "demo": "reasoner.commands.demo",
    "submit": "reasoner.commands.submit",
    "replay": "reasoner.commands.replay",
    "explain": "reasoner.commands.explain",
    "insights": "reasoner.commands.insights",
    "tables": "reasoner.commands.tables",
    "evaluate": "reasoner.commands.evaluate",
    "bench": "reasoner.commands.bench",
}


class _LazyGroup(TyperGroup):
    """The commands of `COMMANDS`, each imported at its first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = get_command(importlib.import_module(COMMANDS[cmd_name]).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turns OpenTelemetry streams into insights an on-call engineer can act on.",
)


@app.callback()
def _root() -> None:
    """Makes the application a group: its commands come from COMMANDS."""


def main() -> None:
    """Entry point. Exit codes: 0 ok, 1 something was found to be wrong, 2 wrong use, 130 interrupted."""
    try:
        app()
    except CommandFailed as failure:
        print(f"reasoner: {failure}", file=sys.stderr)
        raise SystemExit(failure.exit_code) from None
