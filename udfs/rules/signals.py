"""Signals of insights: their fields, and the keys under which rules see them."""

from collections.abc import Iterable, Iterator
from typing import Final

from state_schemas.aggregates.rule_signals import RuleSignal, Signal
from state_schemas.contracts.insight import Contribution, Insight, Kind
from state_schemas.telemetry.message import OffsetRange
from udfs.detect.latency.report import carries
from udfs.insights.ids import service_of
from udfs.rules.compiled import RuleIndex, by_of
from udfs.rules.conditions import Fields
from udfs.rules.relations import known_hosts
from udfs.rules.subjects import bucket_of

__all__ = ["CONCLUSIONS", "insight_signals", "withdrawn_signals"]

# What rules and rankings conclude is never a signal, so that nothing feeds on itself.
CONCLUSIONS: Final[frozenset[Kind]] = frozenset(("sequence_match", "sequence_missing", "incident", "rule_rejected"))
VALUES_MAX: Final = 16  # hosts, operations or traces of one insight
TRACES_MAX: Final = 3
RANGES_MAX: Final = 4


def insight_signals(insight: Insight, index: RuleIndex) -> Iterator[RuleSignal]:
    """Yield the signal of a revision for each subject that it concerns; none where it is withdrawn.

    Its time is that at which the episode began, and its newest revision holds.
    """
    if insight.status == "retracted":
        return
    signal = _signal(insight)
    for name, hits in sorted(by_of(index.hits("insight", _fields(insight), signal.at_ms)).items()):
        for value in _values(insight, name)[:VALUES_MAX]:
            subject = f"{name}|{value}"
            yield RuleSignal(insight.env, bucket_of(subject), subject, signal, tuple(sorted(hits)))


def withdrawn_signals(insight: Insight, subjects: Iterable[str]) -> Iterator[RuleSignal]:
    """Yield the signal of a revision for subjects that it does not concern any more."""
    signal = _signal(insight)
    for subject in sorted(subjects):
        yield RuleSignal(insight.env, bucket_of(subject), subject, signal, ())


def _signal(insight: Insight) -> Signal:
    evidence = insight.evidence
    return Signal(
        at_ms=insight.window.start_ms,
        signal_id=insight.insight_id,
        revision=insight.revision,
        source="insight",
        service=service_of(insight),
        title=insight.title,
        insight_id=insight.insight_id,
        trace_ids=tuple(trace.trace_id for trace in evidence.traces)[:TRACES_MAX],
        ranges=tuple(
            OffsetRange(kafka.topic, kafka.partition, kafka.first_offset, kafka.last_offset)
            for kafka in evidence.kafka[:RANGES_MAX]
        ),
        hosts=known_hosts(host.name for host in evidence.hosts[:VALUES_MAX]),
    )


def _fields(insight: Insight) -> Fields:
    evidence = insight.evidence
    parts = (evidence.hosts, evidence.operations, evidence.callees)
    return {
        "env": insight.env,
        "namespace": insight.namespace,
        "service": insight.service,
        "version": insight.version,
        "site_id": insight.site_id,
        "kind": insight.kind,
        "subject": insight.subject,
        "severity": insight.severity,
        "title": insight.title,
        "host": tuple(host.name for host in evidence.hosts),
        "operation": tuple(operation.name for operation in evidence.operations),
        "callee": tuple(callee.name for callee in evidence.callees),
        "carried_by": tuple(part.name for of_kind in parts if len(of_kind) > 1 for part in of_kind if carries(part)),
        "template": evidence.template,
        "confidence": insight.confidence,
        "cold_start": insight.cold_start,
        **{f"measures.{name}": value for name, value in insight.measures.items()},
    }


def _carries(host: Contribution) -> bool:
    """Return whether a host has at least half of its part of an anomaly.

    Evidence ranks all hosts of the service. One that answers as usual while another one is slow has hardly any part.
    """
    return 2 * host.share >= host.traffic_share


def _values(insight: Insight, by: str) -> tuple[str, ...]:
    """Return the values of `by` of an insight; () where it has none."""
    evidence = insight.evidence
    if by == "env":
        return ("",)
    if by == "service":
        return (service_of(insight),) if insight.service else ()
    if by == "host":
        known = known_hosts(host.name for host in evidence.hosts)
        return tuple(host.name for host in evidence.hosts if _carries(host) and host.name in known)
    if by == "operation":
        return tuple(f"{service_of(insight)}|{operation.name}" for operation in evidence.operations)
    return tuple(trace.trace_id for trace in evidence.traces) if by == "trace" else ()
