"""Signals of insights: their fields, and the keys under which rules see them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from state_schemas.aggregates.rule_signals import RuleHit, RuleSignal, Signal
from state_schemas.contracts.insight import Contribution, Insight, Kind
from state_schemas.telemetry.message import OffsetRange
from udfs.detect.latency.report import carries
from udfs.insights.ids import service_of
from udfs.rules.compiled import RuleIndex, by_of
from udfs.rules.conditions import FieldValue
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
    signal, fields = _signal(insight), _fields(insight)
    for by, hits in sorted(by_of(index.hits("insight", fields, signal.at_ms)).items()):
        for value in _values(insight, by)[:VALUES_MAX]:
            yield _signal_of(insight.env, f"{by}|{value}", signal, hits)
    for host in _hosts(insight)[:VALUES_MAX]:
        found = by_of(index.hits("insight", {**fields, **_fields_by_host(insight, host)}, signal.at_ms))
        if of_host := found.get("host"):
            yield _signal_of(insight.env, f"host|{host}", signal, of_host)


def withdrawn_signals(insight: Insight, subjects: Iterable[str]) -> Iterator[RuleSignal]:
    """Yield the signal of a revision for subjects that it does not concern any more."""
    signal = _signal(insight)
    for subject in sorted(subjects):
        yield _signal_of(insight.env, subject, signal, ())


def _signal_of(env: str, subject: str, signal: Signal, hits: Iterable[RuleHit]) -> RuleSignal:
    return RuleSignal(env, bucket_of(subject), subject, signal, tuple(sorted(hits)))


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


def _fields(insight: Insight) -> dict[str, FieldValue]:
    evidence = insight.evidence
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
        "carried_by": _carriers(evidence.hosts, evidence.operations, evidence.callees),
        "template": evidence.template,
        "confidence": insight.confidence,
        "cold_start": insight.cold_start,
        **{f"measures.{name}": value for name, value in insight.measures.items()},
    }


def _fields_by_host(insight: Insight, host: str) -> dict[str, FieldValue]:
    """Return the fields that a rule by host sees differently: of the hosts of an insight there is only its own."""
    evidence = insight.evidence
    own = (name for name in _carriers(evidence.hosts) if name == host)
    return {"host": host, "carried_by": (*own, *_carriers(evidence.operations, evidence.callees))}


def _carriers(*kinds: Sequence[Contribution]) -> tuple[str, ...]:
    """Return what carries the anomaly, of each kind that has several to compare."""
    return tuple(part.name for parts in kinds if len(parts) > 1 for part in parts if carries(part))


def _values(insight: Insight, by: str) -> tuple[str, ...]:
    """Return the values of `by` of an insight, () where it has none; not of hosts, each of which has own fields."""
    evidence = insight.evidence
    if by == "env":
        return ("",)
    if by == "service":
        return (service_of(insight),) if insight.service else ()
    if by == "operation":
        return tuple(f"{service_of(insight)}|{operation.name}" for operation in evidence.operations)
    return tuple(trace.trace_id for trace in evidence.traces) if by == "trace" else ()


def _hosts(insight: Insight) -> tuple[str, ...]:
    """Return the hosts that an insight concerns: those with at least half of their part of the anomaly.

    Evidence ranks all hosts of the service. One that answers as usual while another one is slow has hardly any part.
    """
    hosts = insight.evidence.hosts
    known = known_hosts(host.name for host in hosts)
    return tuple(host.name for host in hosts if 2 * host.share >= host.traffic_share and host.name in known)
