"""Signals of spans: the spans of one Kafka message that fulfil a step of a rule, found by whole columns."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.rule_signals import RecordSignal, RuleHit, RuleSignal, Signal
from state_schemas.telemetry.message import KafkaPosition, OffsetRange
from state_schemas.telemetry.spans import SpanColumns
from udfs.otlp.resource import clean_name, short_name
from udfs.otlp.span_attributes import AttributeReader
from udfs.rules.compiled import RuleEntry, RuleIndex
from udfs.rules.conditions import Fields
from udfs.rules.records import SIGNALS_MAX, Found, OfRecord, hosts_of
from udfs.rules.span_fields import ATTRIBUTES, FoundSpan, found_spans
from udfs.rules.span_tests import SpanTests
from udfs.rules.subjects import bucket_of

__all__ = ["SpanRules"]

COMBINATIONS_MAX: Final = 20_000  # of conditions that one span fulfils, whose hits are remembered
_NO_TRACE: Final = 32 * "0"
_NO_SPAN: Final = 16 * "0"


class _Hits(NamedTuple):
    """The hits of a combination of conditions for rules of one `by`. counting: entries whose hit has a value."""

    by: str
    value_of: Callable[[FoundSpan], str | None]
    kind: type[OfRecord]
    plain: tuple[RuleHit, ...]
    counting: tuple[RuleEntry, ...]

    def of(self, fields: Fields) -> tuple[RuleHit, ...]:
        if not self.counting:
            return self.plain
        return tuple(sorted({*self.plain, *(entry.hit(fields) for entry in self.counting if entry.counts(fields))}))


class SpanRules:
    """The conditions on spans of all rules. It remembers decisions: use one instance for each thread.

    depth_max: nested arrays and objects in an attribute that is read; a deeper one is empty.
    """

    def __init__(self, index: RuleIndex, depth_max: int) -> None:
        self._rules = index.rules
        listed = index.entries.get("span", {})
        # By their keys, so that the conditions on one service share a block.
        self._entries = list({id(entry): entry for key in sorted(listed) for entry in listed[key]}.values())
        self._reader = AttributeReader(index.asked("span").span, depth_max)
        self._tests = SpanTests([entry.conditions.alternatives[0] for entry in self._entries], self._reader)
        self._combinations: dict[int, tuple[_Hits, ...]] = {}
        # Conditions of versions that count for a time only.
        self._dated = sum(1 << place for place, entry in enumerate(self._entries) if entry.is_dated)

    def signals(self, spans: SpanColumns, ok: NDArray[np.bool_], at: KafkaPosition, since_ms: int = 0) -> Found:
        """Return the signals of the spans of `ok` that ended at since_ms or later, in wire order.

        O(spans), and about 5 us a signal.
        """
        found = self._tests.fulfilled(spans, ok, since_ms) if self._entries else {}
        if not found:
            return Found()
        kept: list[OfRecord] = []
        ranges = (at.range,)
        beyond = 0
        for span in found_spans(spans, np.array(sorted(found), np.intp), self._reader):
            signal: Signal | None = None
            for hits in self._hits(found[span.row], span.end_ms):
                value = hits.value_of(span)
                if value is None:
                    continue
                if len(kept) == SIGNALS_MAX:
                    beyond += 1
                    continue
                signal = signal or _signal(span, at, ranges)
                subject, fulfilled = f"{hits.by}|{value}", hits.of(span)
                if fulfilled:
                    kept.append(hits.kind(span.resource.env, bucket_of(subject), subject, signal, fulfilled))
        return Found(tuple(kept), beyond)

    def _hits(self, conditions: int, at_ms: int) -> tuple[_Hits, ...]:
        """Return the hits of the conditions that count at an event time."""
        dated = conditions & self._dated
        while dated:
            bit = dated & -dated
            dated ^= bit
            if not self._entries[bit.bit_length() - 1].holds_at(at_ms):
                conditions ^= bit
        known = self._combinations.get(conditions)
        if known is None:
            if len(self._combinations) >= COMBINATIONS_MAX:
                self._combinations.clear()
            known = self._combinations[conditions] = tuple(self._combined(conditions))
        return known

    def _combined(self, conditions: int) -> Iterator[_Hits]:
        groups: dict[tuple[str, bool], list[RuleEntry]] = {}
        for place, entry in enumerate(self._entries):
            if conditions >> place & 1:
                # Those of records alone first.
                groups.setdefault((entry.by, not self._rules[entry.rule].is_of_records), []).append(entry)
        for (by, has_insights), entries in sorted(groups.items()):
            plain = {entry.hit({}) for entry in entries if not entry.distinct}
            kind = RuleSignal if has_insights else RecordSignal
            counting = tuple(entry for entry in entries if entry.distinct)
            yield _Hits(by, _reader_of(by), kind, tuple(sorted(plain)), counting)


def _signal(span: FoundSpan, at: KafkaPosition, ranges: tuple[OffsetRange, ...]) -> Signal:
    has_trace = span.trace_id != _NO_TRACE
    # Both sides of a call can share an id, as with B3; a span without one is known by its place.
    if has_trace and span.span_id != _NO_SPAN:
        signal_id = f"{span.trace_id}|{span.span_id}|{span.service}|{span.kind}"
    else:
        signal_id = f"{at.topic}|{at.partition}|{at.offset}|{span.row}"
    return Signal(
        at_ms=span.end_ms,
        signal_id=signal_id,
        revision=0,
        source="span",
        service=span.service,
        title=f"{clean_name(span.name)}: {span.status}, {span.duration_ms:.0f} ms",
        trace_ids=(span.trace_id,) if has_trace else (),
        ranges=ranges,
        hosts=hosts_of(span.resource.host),
    )


_VALUES: Final[Mapping[str, Callable[[FoundSpan], str | None]]] = {
    "env": lambda span: "",
    "service": lambda span: span.service,
    "host": lambda span: next(iter(hosts_of(span.resource.host)), None),
    "operation": lambda span: f"{span.service}|{short_name(span.name)}",
    "trace": lambda span: span.trace_id if span.trace_id != _NO_TRACE else None,
}


def _reader_of(by: str) -> Callable[[FoundSpan], str | None]:
    """Return what reads the value of `by` of a span, None where it has none."""
    field = f"{ATTRIBUTES}{by.removeprefix('attribute:')}"
    return _VALUES.get(by) or (lambda span: short_name(str(span.get(field))) or None)
