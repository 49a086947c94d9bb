"""Explanation of log records and exceptions of spans: messages in, one row for each record out.

The functions are those that the job's folds call, so a row agrees with the job on the same bytes.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from operators.ingest.fold import FoldConfig, place_records
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.state.log_patterns import Registered
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.metrics import MetricPoint
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import SpanColumns
from udfs.detect.log_patterns.registry import canonical, register
from udfs.logs.masking.masker import MaskName
from udfs.logs.reader import LineReader, ReadLine
from udfs.logs.span_exceptions import exception_record
from udfs.logs.template import merge_texts, template_of
from udfs.otlp.decoder import SpanDecoder, decode_logs, decode_metrics
from udfs.otlp.signal import signal_of
from udfs.otlp.span_scanner_kernels import EXCEPTIONS_MAX
from udfs.spans.message import fold_spans

EXCEPTIONS_OVERFLOWED: Final = "exceptions_overflowed"  # name of the metric in which the job counts them
_BEYOND: Final = f"found more exceptions of one span, expected at most {EXCEPTIONS_MAX}; the first ones count"
_NS_PER_MS: Final = 1_000_000
_Records = tuple[LogRecord, ...] | tuple[MetricPoint, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A log record (signal `logs`) or an exception of a span (`traces`) as the job counts it; the fields of its JSON.

    - severity_number: of OpenTelemetry, 0 if none is given.
    - exception_type: "" without an exception.
    - pattern_id, template: of the pattern under which its service counts it when the whole file is known.
    - masked: the masks that replaced a part of its line.
    - line: masked; "" below WARN, where no line is kept.
    """

    service: str
    env: str
    severity_number: int
    warning_or_worse: bool
    event_name: str
    exception_type: str
    pattern_id: str
    template: str
    masked: tuple[MaskName, ...]
    line: str
    signal: SignalType
    namespace: str


@dataclass(frozen=True, slots=True)
class NotCounted:
    """Records of one message that are only counted as rejected.

    - signal: of the message: its records are log records, spans or metric points.
    - reason: one of docs/rejected.md, or EXCEPTIONS_OVERFLOWED, whose records are exceptions of spans.
    - detail: for people, without payload.
    - records: 0 if the message could not be read at all.
    """

    signal: SignalType
    reason: str
    detail: str
    records: int


class _Registry(NamedTuple):
    """The key of a registry: a service, with its log records (`logs`) apart from exceptions of spans."""

    signal: SignalType
    env: str
    namespace: str
    service: str


class _Line(NamedTuple):
    """A record that waits until all patterns of its registry are known."""

    registry: _Registry
    event_name: str
    read: ReadLine


class Explainer:
    """An explainer of messages, one after the other. Its memory grows with their records. It belongs to one thread.

    messages_read: number of messages that are OTLP requests, also if none of their records counts.
    """

    def __init__(self, config: FoldConfig) -> None:
        self.messages_read = 0
        self._config = config
        self._reader = LineReader(config.masks)
        self._rows: list[_Line | NotCounted] = []

    def add(self, data: bytes, timestamp_ms: int | None = None) -> None:
        """Read one message with any bytes. Never raises on bad bytes.

        timestamp_ms: Kafka's, epoch ms; without it the newest event time in the message, as in a replay.
        """
        signal = signal_of(data)
        rejected: Sequence[Rejected]
        match self._decoded(signal, data):
            case Rejected() as fault:
                rejected = (fault,)
            case SpanColumns() as spans:
                rejected = self._add_spans(spans, timestamp_ms)
            case records:
                rejected = self._add_records(signal, records, timestamp_ms)
        self._rows += (NotCounted(signal, fault.reason, fault.detail, fault.records) for fault in rejected)

    def rows(self) -> Iterator[Explained | NotCounted]:
        """Yield a row for each record that counts, and for each reason for which records of a message do not count.

        Order: that of `add`; for a message its records in their order, then the reasons. Pattern ids are those of all
        records added so far, as if they came at once; no pattern is evicted.
        """
        known = _registered(row for row in self._rows if isinstance(row, _Line))
        for row in self._rows:
            yield row if isinstance(row, NotCounted) else self._explained(row, known[row.registry])

    @cached_property
    def _decoder(self) -> SpanDecoder:
        return SpanDecoder(self._config.decode)  # loads the compiled scanner, so it is created only when needed

    def _decoded(self, signal: SignalType, data: bytes) -> SpanColumns | _Records | Rejected:
        if signal == "traces":
            return self._decoder.decode(data)
        return (decode_logs if signal == "logs" else decode_metrics)(data, self._config.decode)

    def _add_records(self, signal: SignalType, records: _Records, timestamp_ms: int | None) -> Sequence[Rejected]:
        """Add log records; data points are only checked, and not explained."""
        self.messages_read += 1
        sent_ms = _sent_ms(timestamp_ms, (record.time_ns for record in records))
        placed = place_records(signal, records, sent_ms, self._config.times)
        counted = (records[place.number] for place in placed.places)
        self._add_lines(signal, [record for record in counted if isinstance(record, LogRecord)])
        return placed.rejected

    def _add_spans(self, spans: SpanColumns, timestamp_ms: int | None) -> Sequence[Rejected]:
        self.messages_read += 1
        at = KafkaPosition("", 0, 0, _sent_ms(timestamp_ms, spans.end_ns.tolist()))
        found = fold_spans(spans, at, self._config.times)
        counted = [exception for exception in spans.exceptions if found.counted[exception.span]]
        self._add_lines("traces", [exception_record(spans, exception) for exception in counted])
        if spans.exceptions_beyond:
            self._rows.append(NotCounted("traces", EXCEPTIONS_OVERFLOWED, _BEYOND, spans.exceptions_beyond))
        return found.rejected

    def _add_lines(self, signal: SignalType, records: Sequence[LogRecord]) -> None:
        for record, read in zip(records, self._reader.read(records), strict=True):
            registry = _Registry(signal, record.resource.env, record.resource.namespace, record.resource.service)
            self._rows.append(_Line(registry, record.event_name, read))

    def _explained(self, line: _Line, known: dict[str, Registered]) -> Explained:
        read, pattern = line.read, line.read.pattern
        # The job keeps no registry of lines below WARN: each is counted under its own pattern.
        pattern_id = canonical(known, pattern.pattern_id, pattern.texts) if read.severe else pattern.pattern_id
        texts = known[pattern_id].texts if read.severe else pattern.texts
        return Explained(
            service=line.registry.service,
            env=line.registry.env,
            severity_number=read.severity,
            warning_or_worse=read.severe,
            event_name=line.event_name,
            exception_type=read.exception_type,
            pattern_id=pattern_id,
            template=template_of(texts),
            masked=self._reader.masks_in(read.masked_line),
            line=read.line,
            signal=line.registry.signal,
            namespace=line.registry.namespace,
        )


def _registered(lines: Iterable[_Line]) -> dict[_Registry, dict[str, Registered]]:
    """Register the severe patterns of each registry, by id, with the wider patterns into which they were merged."""
    found: dict[_Registry, dict[str, Registered]] = {}
    for line in lines:
        new = found.setdefault(line.registry, {})
        if line.read.severe:
            pattern_id, _, texts = line.read.pattern
            before = new.get(pattern_id)
            new[pattern_id] = Registered(merge_texts(before.texts, texts) if before else texts, 0, 0, 0)
    return {registry: register({}, new, sys.maxsize).entries for registry, new in found.items()}


def _sent_ms(timestamp_ms: int | None, times_ns: Iterable[int]) -> int:
    return max(times_ns, default=0) // _NS_PER_MS if timestamp_ms is None else timestamp_ms
