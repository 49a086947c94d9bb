"""Insight of a match: what happened in which order, or what did not follow."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from state_schemas.contracts.insight import Contribution, Evidence, Insight, Kind, TimelineStep, TraceExemplar
from state_schemas.contracts.tables import MatchRow
from state_schemas.state.sequences import FulfilledStep, PartialMatch
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from udfs.detect.finding import Finding
from udfs.detect.lifecycle import Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, elapsed, kafka_ranges
from udfs.rules.compiled import CompiledRule, rule_name
from udfs.rules.matching import signal_of

__all__ = ["Reported", "SequenceKey", "match_row", "report"]

TRACES_MAX: Final = 5
RANGES_MAX: Final = 10
CONFIDENCE: Final = 0.9  # of a rule that a person wrote: as that of a silence


class SequenceKey(NamedTuple):
    """What the steps of a match have in common. by, value: such as `host` and its name; value is "" for `env`."""

    env: str
    by: str
    value: str

    @classmethod
    def of(cls, env: str, subject: str) -> "SequenceKey":
        """Parse a subject, `by|value`."""
        by, _, value = subject.partition("|")
        return cls(env, by, value)

    @property
    def operation(self) -> str:
        """Return the name of an operation, whose value is `service|name`."""
        return self.value.partition("|")[2]

    @property
    def subject(self) -> str:
        return f"{self.by}|{self.value}"


class Reported(NamedTuple):
    """A match as it is reported. at_ms: its event time. matches: how many it stands for, last_ms: time of the last."""

    match: PartialMatch
    at_ms: int
    matches: int
    last_ms: int


def report(compiled: CompiledRule, key: SequenceKey, found: Reported, course: Course) -> Insight:
    """Return the insight of a match, as revision 0."""
    rule, fulfilled = compiled.rule, found.match.fulfilled
    missing = _missing(compiled, fulfilled)
    kind: Kind = "sequence_missing" if missing else "sequence_match"
    insight = Finding(
        kind=kind,
        subject=rule_name(rule),
        start_ms=found.match.first_ms,
        end_ms=found.last_ms + 1,  # the end of a window is excluded
        severity=rule.severity,
        confidence=CONFIDENCE,
        text=f"{rule.title}{_of(key)}: {_story(compiled, fulfilled)}" + (f", no {missing}" if missing else ""),
        measures={"duration_s": (found.at_ms - found.match.first_ms) / 1000, "matches": float(found.matches)},
        evidence=Evidence(
            traces=_traces(key, fulfilled),
            hosts=(Contribution(key.value, 1.0, 0.0, len(fulfilled)),) if key.by == "host" else (),
            operations=(Contribution(key.operation, 1.0, 0.0, len(fulfilled)),) if key.by == "operation" else (),
            kafka=kafka_ranges(_ranges(fulfilled)),
            expected=_expected(compiled, found, missing) if missing else "",
            timeline=_timeline(compiled, fulfilled),
        ),
        info=ServiceInfo(),
    ).candidate(ServiceKey(key.env, _service(key, fulfilled)), course)
    # Matches of two hosts or traces can have one service, and those of an environment have none.
    subject = key.subject + compiled.plan.story(found.match)
    return replace(insight, insight_id=insight_id(kind, key.env, subject, insight.subject, insight.window.start_ms))


def match_row(insight: Insight) -> MatchRow:
    """Return the row of the table of matches of a revision that `report` has made."""
    rule_id, _, version = insight.subject.partition("@")
    return MatchRow(
        insight_id=insight.insight_id,
        revision=insight.revision,
        status=insight.status,
        env=insight.env,
        service=insight.service,
        rule_id=rule_id,
        rule_version=int(version),
        is_missing=insight.kind == "sequence_missing",
        severity=insight.severity,
        window_start_ms=insight.window.start_ms,
        window_end_ms=insight.window.end_ms,
        matches=int(insight.measures["matches"]),
        timeline=msgspec.json.encode(insight.evidence.timeline).decode(),
        title=insight.title,
        namespace=insight.namespace,
    )


def _service(key: SequenceKey, fulfilled: Sequence[FulfilledStep]) -> str:
    """Return the service of a match: that of its subject, "" for a whole environment, else that of the last step."""
    if key.by in ("service", "operation"):
        return key.value.partition("|")[0]
    return "" if key.by == "env" else fulfilled[-1].signal.service


def _of(key: SequenceKey) -> str:
    """Return what a match is of, where the title does not begin with it."""
    if key.by in ("service", "env"):
        return ""
    return f" in operation {key.operation}" if key.by == "operation" else f" on {key.by} {key.value}"


def _expected(compiled: CompiledRule, found: Reported, missing: str) -> str:
    within, after, until = elapsed(compiled.plan.absence_ms), clock(found.match.end_ms), clock(found.at_ms)
    return f"step {missing} within {within} after {after}, none came until {until}"


def _missing(compiled: CompiledRule, fulfilled: Sequence[FulfilledStep]) -> str:
    """Return the last step that did not come, with its relations; "" in a rule whose last step must come."""
    if not compiled.plan.absence_ms:
        return ""
    relations = compiled.plan.steps[-1].relations
    wanted = (relation.wanted(signal_of(fulfilled, relation.step)) for relation in relations)
    return " ".join([compiled.rule.steps[-1].name, *wanted])


def _story(compiled: CompiledRule, fulfilled: Sequence[FulfilledStep]) -> str:
    """Return the steps with their times: the first as a time of day, the others as delays."""
    names = [compiled.rule.steps[step.step].name for step in fulfilled]
    delays = [
        f"{name} +{elapsed(step.delay_ms)}" + (f" ({', '.join(step.relations)})" if step.relations else "")
        for name, step in zip(names, _timeline(compiled, fulfilled), strict=True)
    ]
    return ", ".join([f"{names[0]} at {clock(fulfilled[0].end_ms)}", *delays[1:]])


def _timeline(compiled: CompiledRule, fulfilled: Sequence[FulfilledStep]) -> tuple[TimelineStep, ...]:
    times_ms = [step.signal.exact_ms or step.end_ms for step in fulfilled]
    delays_ms = [0, *(max(0, after - before) for before, after in pairwise(times_ms))]
    return tuple(
        TimelineStep(
            step=compiled.rule.steps[step.step].name,
            at_ms=at_ms,
            delay_ms=delay_ms,
            signals=step.signals,
            service=step.signal.service,
            title=step.signal.title,
            insight_id=step.signal.insight_id,
            trace_id=next(iter(step.signal.trace_ids), ""),
            relations=tuple(
                relation.described(step.signal, signal_of(fulfilled, relation.step))
                for relation in compiled.plan.steps[step.step].relations
            ),
        )
        for step, at_ms, delay_ms in zip(fulfilled, times_ms, delays_ms, strict=True)
    )


def _traces(key: SequenceKey, fulfilled: Sequence[FulfilledStep]) -> tuple[TraceExemplar, ...]:
    ids = dict.fromkeys([key.value] if key.by == "trace" else [])
    ids |= dict.fromkeys(trace_id for step in fulfilled for trace_id in step.signal.trace_ids)
    return tuple(TraceExemplar("sample", trace_id, 0.0, "", "") for trace_id in list(ids)[:TRACES_MAX])


def _ranges(fulfilled: Sequence[FulfilledStep]) -> tuple[OffsetRange, ...]:
    return tuple(sorted({found for step in fulfilled for found in step.signal.ranges}))[:RANGES_MAX]
