"""`reasoner rules`: check and list sequence rules, say what they would have matched, print their JSON Schema."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reasoner.commands.shared import group, print_table
from reasoner.errors import CommandFailed
from state_schemas.contracts.settings import counted

if TYPE_CHECKING:
    from reasoner.runs.backtest import Outcome

app = group("Check and list sequence rules.", "reasoner rules check rules/")

Files = Annotated[list[Path], typer.Argument(help="Files of rules, or folders of them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@app.command()
def check(files: Files) -> None:
    """Check files of rules: all faults, a line each with file and line.

    Example: reasoner rules check rules/

    Exit codes: 0 ok, 1 rules have faults, 2 wrong use.
    """
    from jobs.rules import read_rule_files

    found = read_rule_files(files)
    if found.faults:
        lines = "\n  ".join(map(str, found.faults))
        message = f"{counted(found.faults)} in rules:\n  {lines}\nsee docs/rules.md"
        raise CommandFailed(message)
    print(f"{len(found.rules)} rules, no fault")


@app.command(name="list")
def list_command(files: Files, as_json: AsJson = False) -> None:
    """List the rules of files: id, version, what their steps have in common, and the steps.

    Example: reasoner rules list rules/

    Exit codes: 0 ok, 1 rules have faults, 2 wrong use.
    """
    from jobs.rules import read_rule_files

    found = read_rule_files(files)
    if found.faults:
        message = f"{found.faults[0]}; `reasoner rules check` prints all faults"
        raise CommandFailed(message)
    if as_json:
        for rule in found.rules:
            print(rule.model_dump_json(exclude_none=True))
        return
    print_table(
        ("ID", "VERSION", "BY", "STEPS", "TITLE"),
        (
            (rule.id, str(rule.version), rule.by, " > ".join(step.name for step in rule.steps), rule.title)
            for rule in found.rules
        ),
    )


@app.command()
def backtest(
    rules: Annotated[Path, typer.Argument(help="File of rules, or a folder of them.")],
    data: Annotated[list[Path], typer.Option(help="Recording of the Collector's file exporter; may be repeated.")],
    as_json: AsJson = False,
) -> None:
    """Say what rules would have matched in recordings: insights, how many a day, and how far the signals came.

    A step has two numbers: signals that fulfil it, and those that do in its order and time.

    Example: reasoner rules backtest rules/ --data recordings/

    Exit codes: 0 ok, 1 lines of the recording could not be read, 2 wrong use or rules with faults.
    """
    from reasoner.recordings.read import BadLines
    from reasoner.runs.backtest import backtest as run

    bad = BadLines()
    outcomes = run(data, rules, bad)
    if as_json:
        for outcome in outcomes:
            print(json.dumps(outcome.as_json()))
    else:
        _print_outcomes(outcomes)
    if bad.dropped:
        message = f"{bad.dropped} lines of the recording could not be read; `reasoner replay` names them"
        raise CommandFailed(message)


def _print_outcomes(outcomes: "Sequence[Outcome]") -> None:
    print_table(
        ("RULE", "INSIGHTS", "A DAY", "FIRST", "STEPS: SIGNALS, IN ORDER"),
        (
            (
                outcome.rule,
                str(len(outcome.matches)),
                f"{outcome.per_day:.2f}",
                outcome.matches[0].title if outcome.matches else "-",
                "; ".join(f"{name} {count}, {outcome.in_order[name]}" for name, count in outcome.signals.items()),
            )
            for outcome in outcomes
        ),
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of a rule, for the check of files while they are written.

    Example: reasoner rules schema > rule.schema.json

    Exit codes: 0 ok, 2 wrong use.
    """
    from state_schemas.contracts.rules import rule_schema

    print(json.dumps(rule_schema(), indent=2))
