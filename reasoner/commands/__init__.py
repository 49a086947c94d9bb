"""Sub-commands, one module each; they parse arguments, call functions and print results."""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from reasoner.errors import WrongUse, nearest

# Names of the modules with a typer `app`. A module is imported when its command is called, so that `reasoner stack
# status` does not load PyFlink or pyarrow.
COMMANDS = (
    *("setup", "stack", "demo", "topics", "tables", "submit", "doctor", "jobs", "status", "stop", "savepoint"),
    *(
        "upgrade",
        "rollback",
        "transactions",
        "reconcile",
        "insights",
        "replay",
        "explain",
        "rules",
        "graph",
        "flink",
        "evaluate",
        "bench",
    ),
)


class _LazyGroup(TyperGroup):
    """The commands of `COMMANDS`; each is imported when it is used first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            if not ctx.resilient_parsing:
                message = f"unknown command {cmd_name!r}; {nearest(cmd_name, COMMANDS)}"
                raise WrongUse(message)
            return None
        command = get_command(importlib.import_module(f"reasoner.commands.{cmd_name}").app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Turn OpenTelemetry streams into insights that an on-call engineer can act on.\n\n"
        "Use `reasoner COMMAND --help` for the options of a command.\n\n"
        "Example: reasoner replay recordings/ --engine flink\n\n"
        "`--verbose` shows the traceback of an error.\n\n"
        "Exit codes: 0 ok, 1 a check or an action failed, 2 wrong use, 130 interrupted."
    ),
)


@app.callback()
def _root() -> None:
    """Make the application a group of commands. The commands are those of COMMANDS."""
