"""`reasoner rules`: check, list, publish and remove sequence rules, backtest them, import Sigma rules."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from reasoner.commands.shared import group, print_table, rules_path, say
from reasoner.durations import duration_ms
from reasoner.errors import CommandFailed, WrongUse
from reasoner.extras import require
from state_schemas.contracts.settings import Kafka, ReaderConfig, counted, load

if TYPE_CHECKING:
    from reasoner.runs.backtest import Outcome
    from reasoner.sigma.rules import Imported
    from state_schemas.contracts.rules import Rule

app = group("Check, list, publish and remove sequence rules.", "reasoner rules check rules/")

_FILES: Final = typer.Argument(
    parser=rules_path, metavar="FILES", help="Files of rules, folders of them, or `shipped`."
)
_SINCE: Final = "6h"  # detectors need an hour, and most of it would be left
Files = Annotated[list[Path], _FILES]
JobFile = Annotated[Path, typer.Option("--config", help="YAML file of the job; kafka.topics.rules names the topic.")]
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
def list_command(
    files: Annotated[list[Path] | None, _FILES] = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="The rules of this package, and where they are.")] = False,
    config: Annotated[Path | None, typer.Option(help="YAML file of a job: list the rules of its topic.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the rules of files, of this package, or of the topic of a job, with their steps.

    Of a topic also the event times from which each version holds, and until when.

    Example: reasoner rules list --config job.yaml

    Exit codes: 0 ok, 1 rules have faults or Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    from jobs.shipped import SHIPPED, shipped_rules
    from reasoner.runs import publish

    if sum(map(bool, (files, shipped, config))) != 1:
        message = "expected one of FILES, --shipped and --config"
        raise WrongUse(message)
    if config:
        held = publish.rules_of_topic(_rules_topic(config))
        _print_rules([(rule, {"holds": holds}) for rule, holds in held], as_json)
        return
    if shipped:
        _print_rules([(one.rule, {"state": one.state}) for one in shipped_rules()], as_json)
        if not as_json:
            print(f"\nfiles: {SHIPPED}")
        return
    _print_rules([(rule, {}) for rule in publish.rules_of_files(files or ())], as_json)


def _print_rules(rules: "Sequence[tuple[Rule, dict[str, str]]]", as_json: bool) -> None:
    """Print rules, each with further fields, which all of them have."""
    if as_json:
        for rule, fields in rules:
            print(json.dumps(fields | rule.model_dump(mode="json", exclude_none=True)))
        return
    further = rules[0][1] if rules else {}
    print_table(
        ("ID", "VERSION", *(name.upper() for name in further), "BY", "STEPS", "TITLE"),
        ((rule.id, str(rule.version), *fields.values(), rule.by, _steps(rule), rule.title) for rule, fields in rules),
    )


def _steps(rule: "Rule") -> str:
    return " > ".join(step.name for step in rule.steps)


@app.command(name="publish")
def publish_command(
    files: Files,
    config: JobFile,
    ahead: Annotated[str, typer.Option(help="Time from now to the event time from which they hold.")] = "1m",
) -> None:
    """Publish the rules of files to the topic of a job. It is safe to repeat: what is published already is not sent.

    A changed rule needs a higher version. All files are checked first, and against the rules of the topic: with one
    fault nothing is sent. A version holds from its `effective_from`, and no earlier than --ahead after now and after
    the newest event, so that each part of the job has it before it judges that time.

    Example: reasoner rules publish rules/ --config job.yaml

    Exit codes: 0 ok, 1 rules have faults or Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    from jobs.settings import load as load_job
    from reasoner.runs import publish

    ahead_ms = duration_ms("--ahead", ahead)
    rules, kafka = publish.rules_of_files(files), _rules_topic(config)
    own = load_job(config).rules
    for line in publish.publish_rules(kafka, rules, ahead_ms, own.published if own else ()):
        print(line)


@app.command()
def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids of rules.")],
    config: JobFile,
) -> None:
    """Remove rules from the topic of a job: half a minute later they match nothing, and partial matches end.

    Example: reasoner rules remove slow-then-failing --config job.yaml

    Exit codes: 0 ok, 1 the topic has no such rule or Kafka cannot be reached, 2 wrong use or wrong settings.
    """
    from reasoner.runs import publish

    for line in publish.remove_rules(_rules_topic(config), ids):
        print(line)


def _rules_topic(config: Path) -> Kafka:
    kafka = load(config, ReaderConfig).kafka
    if not kafka.topics.rules:
        message = f"{config} names no topic of rules: set kafka.topics.rules, such as insight_rules"
        raise WrongUse(message)
    if kafka.properties:
        message = (
            f"{config} reaches its brokers by kafka.properties, which this command does not read: send the rule as a "
            "record by a producer of yours, its key the id of the rule; docs/rules.md says the rest"
        )
        raise WrongUse(message)
    return kafka


@app.command()
def backtest(
    rules: Annotated[
        Path, typer.Argument(parser=rules_path, metavar="RULES", help="File of rules, a folder of them, or `shipped`.")
    ],
    data: Annotated[
        list[Path] | None, typer.Option(help="Recording of the Collector's file exporter; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of a job: read its topics and its detection.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help=f"Of the topics, what came within 30m, 12h, 2d before the newest message; {_SINCE} if not set."
        ),
    ] = None,
    offsets: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC/PARTITION:FIRST-LAST", help="These messages instead; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what rules would have matched in recordings or topics: insights, how many a day, how far the signals came.

    A step has two numbers: signals that fulfil it, and those that do in its order and time. Detectors begin without a
    model, as a new job does: begin an hour before what you look for. Nothing is written or committed.

    Example: reasoner rules backtest rules/ --config job.yaml --since 12h

    Exit codes: 0 ok, 1 lines of the recording, or all messages, could not be read, or there is none, or Kafka cannot be
    reached, 2 wrong use or rules with faults.
    """
    from reasoner.recordings.read import BadLines
    from reasoner.runs.backtest import Topics, backtest_topics
    from reasoner.runs.backtest import backtest as run

    if bool(data) == bool(config) or (data and (offsets or since)) or (offsets and since):
        message = "expected one of --data and --config, and beside --config one of --since and --offsets, or neither"
        raise WrongUse(message)
    bad = BadLines()
    if config:
        asked = Topics(duration_ms("--since", since or _SINCE), tuple(offsets or ()))
        outcomes = backtest_topics(config, asked, rules, say)
    else:
        outcomes = run(data or (), rules, bad)
    if outcomes:
        for line in outcomes[0].read.lines():
            say(line)
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


@app.command(name="import-sigma")
def import_sigma(
    files: Annotated[list[Path], typer.Argument(help="Files of Sigma rules, or folders of them.")],
    mapping: Annotated[list[Path] | None, typer.Option(help="Mapping of Sigma fields; may be repeated.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for a file for each rule; without it they are printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import Sigma detection and correlation rules; each that cannot be said is refused with the reason.

    With --json one JSON object is printed for each Sigma rule: status, reason and rule.

    Example: reasoner rules import-sigma sigma/rules/linux --output rules/

    Exit codes: 0 ok, 1 some were refused (the others are imported), 2 wrong use.
    """
    require("sigma", "reasoner rules import-sigma")
    from reasoner.sigma.files import import_sigma as run
    from reasoner.sigma.mapping import read_mapping

    outcomes = run(files, read_mapping(mapping or ()))
    if as_json:
        for outcome in outcomes:
            print(json.dumps(outcome.as_json()))
    _write([outcome.rule for outcome in outcomes if outcome.rule], output, is_printed=not as_json)
    counts = [sum(outcome.status == status for outcome in outcomes) for status in ("imported", "part", "refused")]
    summary = f"{counts[0]} imported, {counts[1]} are parts of others, {counts[2]} refused"
    if counts[2]:
        lines = "\n  ".join(str(outcome) for outcome in outcomes if outcome.status == "refused")
        message = f"{summary}:\n  {lines}\nsee docs/sigma.md"
        raise CommandFailed(message)
    say(summary)


def _write(rules: "Sequence[Imported]", output: Path | None, is_printed: bool) -> None:
    """Write each rule into a file of the folder, or print all as the documents of one file."""
    from udfs.rules.document import FILE_BYTES_MAX, RULES_MAX

    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for rule in rules:
            (output / f"{rule.document['id']}.yaml").write_text(rule.text, "utf-8")
    elif is_printed:
        text = "---\n".join(rule.text for rule in rules)
        if len(rules) > RULES_MAX or len(text.encode()) > FILE_BYTES_MAX:
            message = f"{len(rules)} rules are more than one file has: use --output FOLDER"
            raise WrongUse(message)
        print(text, end="")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a rule, for the check of files while they are written.

    Example: reasoner rules schema > rule.schema.json

    Exit codes: 0 ok, 2 wrong use.
    """
    from state_schemas.contracts.rules import rule_schema

    print(json.dumps(rule_schema(), indent=2))
