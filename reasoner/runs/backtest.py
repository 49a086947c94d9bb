"""Backtest of sequence rules over recordings or topics: what would have matched, when, how far other signals came."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobs.settings import Detection, JobConfig, load
from reasoner.clients.topic_messages import offsets_named, offsets_since, records_between
from reasoner.clients.topics import source_names
from reasoner.errors import CommandFailed, WrongUse
from reasoner.recordings.message import Message
from reasoner.recordings.read import BadLines, read
from reasoner.recordings.reshape import placed
from reasoner.runs.local_run import LocalRun
from reasoner.runs.replay import PARTITIONS, Report, settings
from state_schemas.aggregates.rule_signals import (
    RuleClock,
    RuleEdge,
    RuleHit,
    RuleSignal,
    ServiceEdge,
    Signal,
    SignalBatch,
    SubjectSignal,
)
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight
from state_schemas.telemetry.signals import SIGNALS
from udfs.event_time import WINDOW_MS
from udfs.rules.compiled import RuleIndex, rule_name
from udfs.rules.matching import in_order
from udfs.rules.windows import ordered_by_window, union

DAY_MS: Final = 24 * 3_600_000
SIGNALS_MAX: Final = 200_000  # that are kept to say how far they came, 1 kB each
Hit = tuple[Signal, RuleHit]


class Input(NamedTuple):
    """What of the messages counted.

    - messages: that were read; undecoded: those that were no OTLP; rejected: records of the others.
    - dead_letters: that the job would write about both.
    - late: records that are older than `lateness_ms`, or met a final window, the latter once for each stage.
    - left_out: signals of all rules that are in the matches, but not among those of the steps: beyond SIGNALS_MAX.
    """

    messages: int = 0
    undecoded: int = 0
    rejected: int = 0
    dead_letters: int = 0
    late: int = 0
    left_out: int = 0

    def lines(self) -> Iterator[str]:
        """Yield a line for people about each kind that did not count."""
        if self.undecoded or self.rejected:
            yield (
                f"of {self.messages} messages {self.undecoded} could not be decoded; records rejected: "
                f"{self.rejected}, dead letters in a job: {self.dead_letters}; see docs/rejected.md"
            )
        if self.late:
            yield f"late records, which no rule saw: {self.late}; see records_late_total in docs/runbook.md"
        if self.left_out:
            yield f"{self.left_out} further signals are in the insights, but not in the numbers of the steps"


class Outcome(NamedTuple):
    """What one version of a rule would have done."""

    # `id@version`.
    rule: str
    # Its insights, by start; those that were retracted are left out.
    matches: tuple[Insight, ...]
    # By the name of the step: signals that fulfil it, and those that do in its order, with all edges of the recording.
    signals: dict[str, int]
    in_order: dict[str, int]
    # Length of the recording in ms.
    observed_ms: int
    # The same for all rules.
    read: Input = Input()

    @property
    def per_day(self) -> float:
        """Return the insights for a day of telemetry like this."""
        return len(self.matches) * DAY_MS / self.observed_ms if self.observed_ms else 0.0

    def as_json(self) -> dict[str, Any]:
        found = [{"start_ms": one.window.start_ms, "service": one.service, "title": one.title} for one in self.matches]
        return {
            "rule": self.rule,
            "insights": len(self.matches),
            "per_day": round(self.per_day, 3),
            "signals": self.signals,
            "in_order": self.in_order,
            **self.read._asdict(),
            "matches": found,
        }


def backtest(paths: Sequence[Path], rules: Path, bad: BadLines) -> list[Outcome]:
    """Run the recordings through the shipped graph with these rules; return an outcome for each version of a rule.

    Raises BadConfig where the rules have faults, CommandFailed where no message can be decoded.
    """
    config = settings(Detection(emit_when="final", rules=rules, shipped_rules=False))
    return _run(placed(read(paths, bad), PARTITIONS), config)


@dataclass(frozen=True, slots=True)
class Topics:
    """The messages of the topics of a job that are read.

    - since_ms: those since so long before the newest one, by Kafka timestamps.
    - offsets: instead, those of `TOPIC/PARTITION:FIRST-LAST`.
    """

    since_ms: int
    offsets: tuple[str, ...] = ()


def backtest_topics(file: Path, asked: Topics, rules: Path, report: Report) -> list[Outcome]:
    """Run messages of the topics of a job through its graph, with these rules alone. Nothing is written or committed.

    file: settings of the job, of which detection counts too. report: gets how much there is to read. Memory grows with
    the signals of the rules, and not with the messages. Raises BadConfig, WrongUse or CommandFailed.
    """
    config = load(file)
    kafka, topics = config.kafka, source_names(config.kafka)
    if kafka.properties or not topics:
        found = (
            "reaches its brokers by kafka.properties, which this command does not read" if topics else "has no topic"
        )
        message = f"{file} {found}: backtest a recording by --data"
        raise WrongUse(message)
    own = config.detection.model_copy(update={"emit_when": "final", "rules": rules, "shipped_rules": False})
    without = kafka.model_copy(update={"topics": kafka.topics.model_copy(update={"rules": ""})})
    of_rules = config.model_copy(update={"detection": own, "kafka": without})
    _ = of_rules.rules  # their faults are said before Kafka is asked
    bootstrap = kafka.bootstrap_servers
    if asked.offsets:
        offsets = offsets_named(bootstrap, topics, asked.offsets)
    else:
        offsets = offsets_since(bootstrap, topics, asked.since_ms)
    report(f"reading {sum(map(len, offsets.values())):,} messages of {len(offsets)} partitions")
    signals = {getattr(kafka.topics, signal): signal for signal in SIGNALS}
    messages = (
        Message(signals[record.topic], record.value or b"", record.timestamp, record.partition, reached_ms)
        for record, reached_ms in records_between(bootstrap, offsets, kafka.idle_ms)
    )
    return _run(messages, of_rules)


def _run(messages: Iterable[Message], config: JobConfig) -> list[Outcome]:
    taps = (SignalBatch, RuleClock, RuleEdge)
    run = LocalRun(config.graph(), taps=taps, out_of_order_ms=config.kafka.out_of_order_ms)
    index = config.rules
    assert index is not None, "the settings name a file of rules"
    names = {rule_name(compiled.rule) for compiled in index.rules.values()}
    insights: dict[str, Insight] = {}
    signals: list[SubjectSignal] = []
    left_out, windows = 0, list[int]()
    letters, undecoded = 0, ""
    edges: dict[str, set[ServiceEdge]] = {}
    for out in run.run(messages):
        if isinstance(out, Insight) and out.subject in names:
            insights[out.insight_id] = out
        elif isinstance(out, SignalBatch):
            kept = out.signals[: SIGNALS_MAX - len(signals)]
            left_out += len(out.signals) - len(kept)
            signals += (_placed(signal) for signal in kept)
        elif isinstance(out, RuleClock):
            windows = [min((*windows, *out.windows)), max((*windows, *out.windows))]
        elif isinstance(out, RuleEdge):
            edges.setdefault(out.env, set()).add(out.edge)
        elif isinstance(out, DeadLetter):
            letters += 1
            undecoded = undecoded or ("" if out.records else f"{out.reason}: {out.detail}")
    found = _input(run, letters, left_out)
    if found.messages == found.undecoded:
        raise CommandFailed(_nothing(found.messages, undecoded))
    observed_ms = windows[1] - windows[0] if windows else 0
    outcomes = _outcomes(index, insights, signals, edges, observed_ms)
    return [outcome._replace(read=found) for outcome in outcomes]


def _input(run: LocalRun, dead_letters: int, left_out: int) -> Input:
    counts = run.counts
    return Input(
        messages=sum(run.offsets.values()),
        undecoded=counts["messages_rejected_total"],
        rejected=counts["records_rejected_total"],
        dead_letters=dead_letters,
        late=counts["records_late_total"] + counts["records_behind_total"],
        left_out=left_out,
    )


def _nothing(messages: int, first: str) -> str:
    """Return why nothing can be said of rules. first: why the first message could not be decoded."""
    if not messages:
        return "found no message, expected OTLP of the time in question: name an earlier beginning, or other data"
    return (
        f"found {messages} messages, of which none can be decoded, the first because of {first}; see docs/rejected.md"
    )


def _placed(signal: SubjectSignal) -> SubjectSignal:
    """Return a signal at the time at which its rules see it."""
    return ordered_by_window(signal, WINDOW_MS) if isinstance(signal, RuleSignal) else signal


def _outcomes(
    index: RuleIndex,
    insights: dict[str, Insight],
    signals: Sequence[SubjectSignal],
    edges: dict[str, set[ServiceEdge]],
    observed_ms: int,
) -> Iterator[Outcome]:
    hits: dict[str, dict[tuple[str, str], list[Hit]]] = {}
    for found in union([tuple(signals)]):
        for hit in found.hits:
            hits.setdefault(hit.rule, {}).setdefault((found.env, found.subject), []).append((found.signal, hit))
    for key, compiled in index.rules.items():
        of_rule = hits.get(key, {})
        ordered = [in_order(compiled.plan, held, edges.get(env, ())) for (env, _), held in of_rule.items()]
        steps, name = compiled.rule.steps, rule_name(compiled.rule)
        matches = (one for one in insights.values() if one.subject == name and one.status != "retracted")
        yield Outcome(
            rule=name,
            matches=tuple(sorted(matches, key=lambda one: (one.window.start_ms, one.insight_id))),
            signals={
                step.name: len(
                    {signal.signal_id for held in of_rule.values() for signal, hit in held if hit.step == number}
                )
                for number, step in enumerate(steps)
            },
            in_order={
                step.name: len(frozenset[str]().union(*(found[number] for found in ordered)))
                for number, step in enumerate(steps)
            },
            observed_ms=observed_ms,
        )
