"""Signals of raw records: the log records of one Kafka message that fulfil a step, and what spans share with them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from state_schemas.aggregates.rule_signals import RecordSignal, RuleHit, RuleSignal, Signal
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from udfs.logs.message import PlacedLine
from udfs.logs.template import template_of
from udfs.otlp.resource import VALUE_CHARS_MAX, short_name
from udfs.rules.compiled import RuleIndex, by_of
from udfs.rules.conditions import SEVERITIES, FieldValue
from udfs.rules.relations import known_hosts
from udfs.rules.subjects import bucket_of

__all__ = [
    "SIGNALS_MAX",
    "Found",
    "OfRecord",
    "ResourceFields",
    "hosts_of",
    "is_of_resource",
    "log_signals",
    "value_of_resource",
]

# Of one message; further ones are counted. All outputs of a bundle of Flink, of up to 10,000 messages, are on the heap
# of the JVM at once: 200 signals of a message are 10 kB, packed.
SIGNALS_MAX: Final = 200
OF_RESOURCE: Final = frozenset(("env", "namespace", "service", "version", "site_id", "host"))
OfRecord = RuleSignal | RecordSignal
_template = lru_cache(5_000)(template_of)
_KINDS: Final[tuple[tuple[type[OfRecord], bool], ...]] = ((RecordSignal, True), (RuleSignal, False))


class Found(NamedTuple):
    """The signals of a message, and how many more there were."""

    signals: tuple[OfRecord, ...] = ()
    beyond: int = 0


def log_signals(lines: Iterable[PlacedLine], at: KafkaPosition, index: RuleIndex) -> Found:
    """Return the signals of log records that are not late. O(records x rules that can hold for them)."""
    return capped(
        signal for line in lines if not line.place.late for signal in _signals_of_line(_LineFields(line), at, index)
    )


def capped(signals: Iterator[OfRecord]) -> Found:
    kept: list[OfRecord] = []
    beyond = 0
    for signal in signals:
        if len(kept) < SIGNALS_MAX:
            kept.append(signal)
        else:
            beyond += 1
    return Found(tuple(kept), beyond)


@dataclass(frozen=True)
class _LineFields:
    """Fields of a log record."""

    line: PlacedLine

    @cached_property
    def attributes(self) -> Mapping[str, str]:
        return dict(self.line.record.attributes)

    @cached_property
    def _own(self) -> Mapping[str, FieldValue]:
        record, _, read = self.line
        return {
            "template": _template(read.pattern.texts),
            "body": record.body[:VALUE_CHARS_MAX],
            "severity": ("", *SEVERITIES)[min(6, (read.severity + 3) // 4)],
            "severity_number": read.severity,
            "event_name": record.event_name,
            "pattern": read.pattern.pattern_id,
            "exception_type": read.exception_type,
        }

    def get(self, name: str, /) -> FieldValue | None:
        found = self._own.get(name)
        if found is not None:
            return found or None
        if is_of_resource(name):
            return ResourceFields(self.line.record.resource).get(name)
        if name.startswith("attributes."):
            return self.attributes.get(name.removeprefix("attributes."), "")[:VALUE_CHARS_MAX]
        return None


def _signals_of_line(fields: _LineFields, at: KafkaPosition, index: RuleIndex) -> Iterator[OfRecord]:
    record, place, read = fields.line
    signal: Signal | None = None
    for by, hits in by_of(index.hits("log", fields, place.at_ms)).items():
        value = _value_of_line(fields, by)
        if value is None:
            continue
        signal = signal or Signal(
            at_ms=place.at_ms,
            signal_id=f"{at.topic}|{at.partition}|{at.offset}|{place.number}",
            revision=0,
            source="log",
            service=record.resource.qualified_service,
            title=_template(read.pattern.texts),
            trace_ids=(record.trace_id,) if record.trace_id else (),
            ranges=(at.range,),
            hosts=hosts_of(record.resource.host),
        )
        yield from signals_of_record(record.resource.env, f"{by}|{value}", signal, hits, index)


def _value_of_line(fields: _LineFields, by: str) -> str | None:
    """Return the value of `by` of a record, None where it has none."""
    record = fields.line.record
    if by == "trace":
        return record.trace_id or None
    if by.startswith("attribute:"):
        return short_name(fields.attributes.get(by.removeprefix("attribute:"), "")) or None
    return value_of_resource(record.resource, by)


def is_of_resource(field: str) -> bool:
    """Return whether a field of a record is one of its resource."""
    return field in OF_RESOURCE or field.startswith("resource.")


@dataclass(frozen=True, slots=True)
class ResourceFields:
    """Fields of a record that are those of its resource."""

    resource: Resource

    def get(self, name: str, /) -> FieldValue | None:
        if name.startswith("resource."):
            return dict(self.resource.attributes).get(name.removeprefix("resource."))
        return str(getattr(self.resource, name)) or None


@lru_cache(5_000)
def hosts_of(host: str) -> tuple[str, ...]:
    """Return the hosts of a signal of a resource with this host: none where the name stands for several."""
    return known_hosts((host,))


def value_of_resource(resource: Resource, by: str) -> str | None:
    if by == "host":
        return next(iter(hosts_of(resource.host)), None)
    return {"env": "", "service": resource.qualified_service}.get(by)


def signals_of_record(
    env: str, subject: str, signal: Signal, hits: Iterable[RuleHit], index: RuleIndex
) -> Iterator[OfRecord]:
    """Yield the signal of a subject: for rules of records, and for those that have insights too."""
    for kind, is_of_records in _KINDS:
        of_kind = tuple(sorted(hit for hit in hits if index.rules[hit.rule].is_of_records is is_of_records))
        if of_kind:
            yield kind(env, bucket_of(subject), subject, signal, of_kind)
