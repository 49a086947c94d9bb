"""Signals of raw records: the spans and log records of one Kafka message that fulfil a step of a rule."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.rule_signals import RecordSignal, RuleHit, RuleSignal, Signal
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SPAN_KINDS, SpanColumns
from udfs.logs.message import PlacedLine
from udfs.logs.template import template_of
from udfs.otlp.resource import short_name
from udfs.rules.compiled import RuleEntry, RuleIndex
from udfs.rules.conditions import SEVERITIES, STATUSES, FieldTest, FieldValue
from udfs.rules.subjects import bucket_of

__all__ = ["Found", "log_signals", "span_signals"]

SIGNALS_MAX: Final = 1_000  # of one message; further ones are counted
_NS_PER_MS: Final = 1_000_000
_OF_RESOURCE: Final = frozenset(("env", "namespace", "service", "version", "site_id", "host"))
Mask = NDArray[np.bool_]
OfRecord = RuleSignal | RecordSignal
_KINDS: Final[tuple[tuple[type[OfRecord], bool], ...]] = ((RecordSignal, True), (RuleSignal, False))


class Found(NamedTuple):
    """The signals of a message, and how many more there were."""

    signals: tuple[OfRecord, ...] = ()
    beyond: int = 0


def log_signals(lines: Iterable[PlacedLine], at: KafkaPosition, index: RuleIndex) -> Found:
    """Return the signals of log records that are not late. O(records x rules that can hold for them)."""
    return _capped(
        signal for line in lines if not line.place.late for signal in _signals_of_line(_LineFields(line), at, index)
    )


def span_signals(spans: SpanColumns, ok: Mask, at: KafkaPosition, index: RuleIndex) -> Found:
    """Return the signals of spans. ok: which can be one. O(spans x rules that can hold for them), vectorised."""
    entries = index.entries.get("span")
    if not entries:
        return Found()
    columns = _Columns(spans, ok, index)
    return _capped(columns.signals(entries, at))


def _capped(signals: Iterator[OfRecord]) -> Found:
    kept: list[OfRecord] = []
    beyond = 0
    for signal in signals:
        if len(kept) < SIGNALS_MAX:
            kept.append(signal)
        else:
            beyond += 1
    return Found(tuple(kept), beyond)


@dataclass(frozen=True, slots=True)
class _LineFields:
    """Fields of a log record."""

    line: PlacedLine

    def get(self, name: str, /) -> FieldValue | None:
        record, _, read = self.line
        if name in _OF_RESOURCE:
            return str(getattr(record.resource, name)) or None
        if name.startswith("attributes."):
            return dict(record.attributes).get(name.removeprefix("attributes."))
        if name == "template":
            return template_of(read.pattern.texts)
        values: Mapping[str, FieldValue] = {
            "body": record.body,
            "severity": ("", *SEVERITIES)[min(6, (read.severity + 3) // 4)],
            "severity_number": read.severity,
            "event_name": record.event_name,
            "pattern": read.pattern.pattern_id,
            "exception_type": read.exception_type,
        }
        return values.get(name) or None


def _signals_of_line(fields: _LineFields, at: KafkaPosition, index: RuleIndex) -> Iterator[OfRecord]:
    record, place, read = fields.line
    signal: Signal | None = None
    for by, hits in _by(index.hits("log", fields, place.at_ms)).items():
        value = _value_of_line(fields, by)
        if value is None:
            continue
        signal = signal or Signal(
            at_ms=place.at_ms,
            signal_id=f"{at.topic}|{at.partition}|{at.offset}|{place.number}",
            revision=0,
            source="log",
            service=record.resource.qualified_service,
            title=template_of(read.pattern.texts),
            trace_ids=(record.trace_id,) if record.trace_id else (),
            ranges=(at.range,),
        )
        yield from _signals(record.resource.env, f"{by}|{value}", signal, hits, index)


def _value_of_line(fields: _LineFields, by: str) -> str | None:
    """Return the value of `by` of a record, None where it has none."""
    record = fields.line.record
    if by == "trace":
        return record.trace_id or None
    if by.startswith("attribute:"):
        return short_name(dict(record.attributes).get(by.removeprefix("attribute:"), "")) or None
    return _value_of_resource(record.resource, by)


def _value_of_resource(resource: Resource, by: str) -> str | None:
    return {"env": "", "service": resource.qualified_service, "host": resource.host}.get(by)


def _by(hits: Iterable[tuple[str, RuleHit]]) -> dict[str, set[RuleHit]]:
    found: dict[str, set[RuleHit]] = {}
    for by, hit in hits:
        found.setdefault(by, set()).add(hit)
    return found


def _signals(env: str, subject: str, signal: Signal, hits: Iterable[RuleHit], index: RuleIndex) -> Iterator[OfRecord]:
    """Yield the signal of a subject: for rules of records, and for those that have insights too."""
    for kind, is_of_records in _KINDS:
        of_kind = tuple(sorted(hit for hit in hits if index.rules[hit.rule].is_of_records is is_of_records))
        if of_kind:
            yield kind(env, bucket_of(subject), subject, signal, of_kind)


class _Columns:
    """The spans of a message, for conditions on whole columns. ok: the spans that can be signals."""

    def __init__(self, spans: SpanColumns, ok: Mask, index: RuleIndex) -> None:
        self.spans, self.ok, self.index = spans, ok, index
        self._duration_ms = (spans.end_ns - spans.start_ns).astype(np.float64) / _NS_PER_MS
        self._end_ms = (spans.end_ns // _NS_PER_MS).astype(np.int64)

    def signals(self, entries: Mapping[tuple[str, str], Sequence[RuleEntry]], at: KafkaPosition) -> Iterator[OfRecord]:
        found: dict[int, list[RuleEntry]] = {}
        for entry in self._possible(entries):
            for row in np.flatnonzero(self._mask(entry)).tolist():
                found.setdefault(row, []).append(entry)
        for row in sorted(found):
            yield from self._of_row(row, found[row], at)

    def _possible(self, entries: Mapping[tuple[str, str], Sequence[RuleEntry]]) -> Iterator[RuleEntry]:
        """Yield the entries that demand nothing, or a name or a service that the message has."""
        keys = {("", ""), *(("name", name.casefold()) for name in self.spans.names)}
        keys |= {("service", resource.service.casefold()) for resource in self.spans.resources}
        keys |= {("kind", kind) for kind in SPAN_KINDS}
        for key in sorted(keys & entries.keys()):
            yield from entries[key]

    def _mask(self, entry: RuleEntry) -> Mask:
        """Return which spans fulfil one of the alternatives of an entry."""
        mask = np.zeros(len(self.ok), np.bool_)
        for tests in entry.conditions.alternatives:
            mask |= self._all(tests)
        return mask & self.ok & (self._end_ms >= entry.from_ms) & (self._end_ms < entry.until_ms)

    def _all(self, tests: Sequence[FieldTest]) -> Mask:
        mask = np.ones(len(self.ok), np.bool_)
        for test in tests:
            if not mask.any():
                break
            mask &= self._one(test, mask)
        return mask

    def _one(self, test: FieldTest, mask: Mask) -> Mask:
        """Return which spans fulfil a test: decided for each distinct value, or for each span that is left."""
        spans = self.spans
        if test.fields <= _OF_RESOURCE:
            return _decided([test.holds(_ResourceFields(one)) for one in spans.resources], spans.resource)
        if test.fields == {"name"}:
            return _decided([test.holds({"name": name}) for name in spans.names], spans.name)
        if test.fields == {"kind"}:
            return _decided([test.holds({"kind": kind}) for kind in SPAN_KINDS], spans.kind)
        if test.fields == {"status"}:
            return _decided([test.holds({"status": status}) for status in STATUSES], spans.error.astype(np.int64))
        if test.fields == {"duration_ms"} and test.numbers:
            fulfilled: Mask = np.logical_or.reduce([compare(self._duration_ms) for compare in test.numbers])
            return fulfilled
        out = np.zeros(len(mask), np.bool_)
        for row in np.flatnonzero(mask).tolist():
            out[row] = test.holds(self.fields(row))
        return out

    def fields(self, row: int) -> "_SpanFields":
        spans = self.spans
        return _SpanFields(
            spans.resources[spans.resource[row]],
            {
                "name": spans.names[spans.name[row]],
                "kind": SPAN_KINDS[spans.kind[row]],
                "status": STATUSES[int(spans.error[row])],
                "duration_ms": float(self._duration_ms[row]),
            },
        )

    def _of_row(self, row: int, entries: Sequence[RuleEntry], at: KafkaPosition) -> Iterator[OfRecord]:
        fields, resource = self.fields(row), self.spans.resources[self.spans.resource[row]]
        trace_id, span_id = self.spans.trace_id[row].tobytes().hex(), self.spans.span_id[row].tobytes().hex()
        has_trace, name = int(trace_id, 16) > 0, str(fields.get("name"))
        # Both sides of a call can share an id, as with B3; a span without one is known by its place.
        signal_id = f"{trace_id}|{span_id}|{resource.qualified_service}|{fields.get('kind')}"
        if not (has_trace and int(span_id, 16)):
            signal_id = f"{at.topic}|{at.partition}|{at.offset}|{row}"
        signal = Signal(
            at_ms=int(self._end_ms[row]),
            signal_id=signal_id,
            revision=0,
            source="span",
            service=resource.qualified_service,
            title=f"{name}: {fields.get('status')}, {self._duration_ms[row]:.0f} ms",
            trace_ids=(trace_id,) if has_trace else (),
            ranges=(at.range,),
        )
        values = {
            "trace": trace_id if has_trace else None,
            "operation": f"{resource.qualified_service}|{short_name(name)}",
        }
        for by, hits in _by((entry.by, entry.hit(fields)) for entry in entries).items():
            value = values.get(by) if by in values else _value_of_resource(resource, by)
            if value is not None:
                yield from _signals(resource.env, f"{by}|{value}", signal, hits, self.index)


@dataclass(frozen=True, slots=True)
class _ResourceFields:
    resource: Resource

    def get(self, name: str, /) -> FieldValue | None:
        return str(getattr(self.resource, name)) or None


@dataclass(frozen=True, slots=True)
class _SpanFields:
    resource: Resource
    own: Mapping[str, FieldValue]

    def get(self, name: str, /) -> FieldValue | None:
        return self.own[name] if name in self.own else _ResourceFields(self.resource).get(name)


def _decided(holds: Sequence[bool], index: NDArray[np.generic]) -> Mask:
    """Return which spans have a value that holds; index: of the value of each span."""
    return np.asarray(holds, np.bool_)[index] if len(holds) else np.zeros(len(index), np.bool_)
