"""Folds: one Kafka message in, its partial aggregates and dead letters out. Stateless; never raises on bad bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from state_schemas.metrics import REJECTED, MetricName
from state_schemas.outputs import DeadLetter
from state_schemas.partials import EnvPresence, FoldedMessage, OffsetRange, Presence, PresencePane, SpanBatch
from state_schemas.telemetry import LogRecord, MetricPoint, Rejected, RejectReason, SignalType
from udfs.fold_spans import KafkaPosition, TimeLimits, fold_spans
from udfs.otlp import DecodeSettings, Engine, SpanDecoder, decode_logs, decode_metrics
from udfs.partials import merge_presence

_NS_PER_MS: Final = 1_000_000

_Heard = dict[str, dict[int, list[Presence]]]  # env -> pane start -> who


@dataclass(frozen=True, slots=True)
class FoldConfig:
    """engine: `scan` reads spans with the wire scanner, `upb` with protobuf's own parser, its reference.

    payload_kept: whether dead letters carry the message's bytes (they may hold personal data).
    """

    times: TimeLimits = field(default_factory=TimeLimits)
    engine: Engine = "scan"
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    payload_kept: bool = False


class Folded(NamedTuple):
    """message is None where nothing of it could be counted."""

    message: FoldedMessage | None
    dead_letters: tuple[DeadLetter, ...]
    counts: tuple[tuple[MetricName, int], ...]


class _Part(NamedTuple):
    spans: SpanBatch | None
    presence: tuple[EnvPresence, ...]
    rejected: tuple[Rejected, ...]
    folded: int
    late: int


class Fold:
    """Folds the messages of one signal type. Holds scratch memory: one instance for each thread."""

    def __init__(self, signal: SignalType, config: FoldConfig) -> None:
        self.config = config
        self._signal = signal
        folds: dict[SignalType, Callable[[bytes, KafkaPosition], _Part]] = {
            "traces": self._spans,
            "logs": self._logs,
            "metrics": self._metrics,
        }
        self._fold = folds[signal]
        self._decoder = SpanDecoder(config.engine, config.decode) if signal == "traces" else None

    def fold(self, data: bytes, at: KafkaPosition) -> Folded:
        """O(records), vectorised for spans. Every record is in `message` or counted in a dead letter."""
        part = self._fold(data, at)
        letters = tuple(self._dead_letter(rejected, data, at) for rejected in part.rejected)
        message = None
        if part.spans is not None or part.presence:
            message = FoldedMessage(f"{at.topic}|{at.partition}", part.spans, part.presence, self._signal)
        return Folded(message, letters, _counts(part))

    def _dead_letter(self, rejected: Rejected, data: bytes, at: KafkaPosition) -> DeadLetter:
        return DeadLetter(
            reason=rejected.reason,
            detail=rejected.detail,
            records=rejected.records,
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            timestamp_ms=at.timestamp_ms,
            length_bytes=len(data),
            sha256=sha256(data).hexdigest(),
            payload=data if self.config.payload_kept else b"",
        )

    def _spans(self, data: bytes, at: KafkaPosition) -> _Part:
        assert self._decoder is not None, "only a fold of traces decodes spans"
        spans = self._decoder.decode(data)
        if isinstance(spans, Rejected):
            return _Part(None, (), (spans,), 0, 0)
        result = fold_spans(spans, at, self.config.times)
        return _Part(result.batch, (), result.rejected, result.folded, result.late)

    def _logs(self, data: bytes, at: KafkaPosition) -> _Part:
        records = decode_logs(data, self.config.decode)
        return records_part("logs", records, at, self.config.times)

    def _metrics(self, data: bytes, at: KafkaPosition) -> _Part:
        points = decode_metrics(data, self.config.decode)
        return records_part("metrics", points, at, self.config.times)


def records_part(
    signal: SignalType,
    records: Sequence[LogRecord] | Sequence[MetricPoint] | Rejected,
    at: KafkaPosition,
    times: TimeLimits,
) -> _Part:
    """Who was heard in these records, by pane; records without a usable time are counted as rejected."""
    if isinstance(records, Rejected):
        return _Part(None, (), (records,), 0, 0)
    heard: _Heard = {}
    rejected: dict[RejectReason, int] = {}
    folded = late = 0
    for record in records:
        at_ms = record.time_ns // _NS_PER_MS
        reason = _time_fault(at_ms, at.timestamp_ms, times)
        if reason:
            rejected[reason] = rejected.get(reason, 0) + 1
            continue
        folded += 1
        if at_ms < at.timestamp_ms - times.lateness_ms:
            late += 1
            continue
        pane_ms = at_ms - at_ms % times.pane_ms
        _hear(heard, record.resource.env, pane_ms, Presence(signal, record.resource.service, 1))
    faults = tuple(Rejected(reason, f"event time of {signal}", rejected[reason]) for reason in sorted(rejected))
    return _Part(None, _presence(heard, at), faults, folded, late)


def _time_fault(at_ms: int, timestamp_ms: int, times: TimeLimits) -> RejectReason | None:
    if at_ms == 0:
        return "no_time"
    if at_ms > timestamp_ms + times.future_max_ms:
        return "future"
    return "too_old" if at_ms < timestamp_ms - times.age_max_ms else None


def _hear(heard: _Heard, env: str, start_ms: int, presence: Presence) -> None:
    heard.setdefault(env, {}).setdefault(start_ms, []).append(presence)


def _presence(heard: _Heard, at: KafkaPosition) -> tuple[EnvPresence, ...]:
    ranges = (OffsetRange(at.topic, at.partition, at.offset, at.offset),)
    return tuple(
        EnvPresence(env, merge_presence(PresencePane(start, tuple(seen), ranges) for start, seen in panes.items()))
        for env, panes in sorted(heard.items())
    )


def _counts(part: _Part) -> tuple[tuple[MetricName, int], ...]:
    whole = sum(1 for rejected in part.rejected if not rejected.records)
    counts: list[tuple[MetricName, int]] = [
        ("records_folded_total", part.folded),
        ("records_late_total", part.late),
        ("records_rejected_total", sum(rejected.records for rejected in part.rejected)),
        ("messages_rejected_total", whole),
    ]
    counts += [(REJECTED[rejected.reason], rejected.records or 1) for rejected in part.rejected]
    return tuple(count for count in counts if count[1])
