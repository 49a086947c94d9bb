"""One module for each sub-command; they parse, call and print."""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

# One line per command: its name and the module that holds its typer `app`. Modules are imported when they are
# called, so that `reasoner stack status` does not pay for PyFlink or pyarrow.
COMMANDS = {
    "stack": "reasoner.commands.stack",
    "demo": "reasoner.commands.demo",
    "submit": "reasoner.commands.submit",
    "replay": "reasoner.commands.replay",
    "explain": "reasoner.commands.explain",
    "graph": "reasoner.commands.graph",
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
