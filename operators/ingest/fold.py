"""Folds: one Kafka message in, its aggregates and dead letters out. Stateless; a fold never raises on bad bytes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import groupby
from typing import ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.activity import Activity, ActivityWindow, EnvActivity
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.published_rules import PublishedRule
from state_schemas.aggregates.releases import HostRelease, ReleaseWindow, ServiceReleases
from state_schemas.aggregates.rule_signals import RECORD_SIGNALS, RULE_SIGNALS, RecordSignal, RuleSignal
from state_schemas.aggregates.spans import SpanBatch
from state_schemas.contracts.counters import REJECTED, MetricName
from state_schemas.contracts.dead_letter import DeadLetter, Rejected, RejectReason
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.metrics import MetricPoint
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import SpanColumns
from udfs.activity import merge_activity
from udfs.event_time import Place, TimeLimits
from udfs.logs.masking.masker import MaskSettings
from udfs.logs.message import PlacedLine, fold_lines
from udfs.logs.reader import LineReader
from udfs.logs.span_exceptions import fold_exceptions
from udfs.otlp.decoder import NO_ATTRIBUTES, DecodeSettings, SpanDecoder, decode_logs, decode_metrics
from udfs.rules.compiled import RuleIndex
from udfs.rules.records import Found, log_signals
from udfs.rules.spans import SpanRules
from udfs.spans.message import fold_spans


@dataclass(frozen=True, slots=True)
class FoldConfig:
    """Settings of a fold."""

    # Bounds of event time against the Kafka timestamp of a message.
    times: TimeLimits = field(default_factory=TimeLimits)
    # Bounds of decoding: size, number of spans, depth of values.
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    # Masks that are applied to log lines and exceptions.
    masks: MaskSettings = field(default_factory=MaskSettings)
    # Whether dead letters contain the bytes of the message, which may hold personal data.
    payload_kept: bool = False
    # Sequence rules, some of which may have conditions on records.
    rules: RuleIndex | None = None


class Folded(NamedTuple):
    """The result of one message. message is None when none of its records could be counted."""

    message: FoldedMessage | None
    dead_letters: tuple[DeadLetter, ...]
    counts: tuple[tuple[MetricName, int], ...]


class _Part(NamedTuple):
    rejected: tuple[Rejected, ...]
    spans: SpanBatch | None = None
    activity: tuple[EnvActivity, ...] = ()
    releases: tuple[ServiceReleases, ...] = ()
    logs: tuple[LogAggregate, ...] = ()
    folded: int = 0
    late: int = 0
    exceptions_beyond: int = 0
    texts_repaired: int = 0
    lines_cut: int = 0
    found: Found = Found()


class Placed(NamedTuple):
    """Records of one message.

    - places: the records that count, in wire order.
    - rejected: the other records, ascending by reason.
    """

    places: tuple[Place, ...]
    rejected: tuple[Rejected, ...]


class Fold(ABC):
    """The fold of one signal type. It holds scratch memory: use one instance for each thread."""

    signal: ClassVar[SignalType]
    # Whether rules have conditions on its records.
    is_ruled: ClassVar[bool] = True
    gives = (FoldedMessage, DeadLetter)

    def __init__(self, config: FoldConfig) -> None:
        self.config = config

    def with_rules(self, changes: Sequence[PublishedRule]) -> Self:
        """Return the fold with rules in place of those of the same id."""
        before = self.config.rules or RuleIndex.of()
        after = before.updated(changes)
        return self if after is before else type(self)(replace(self.config, rules=after))

    def fold(self, data: bytes, at: KafkaPosition) -> Folded:
        """Decode one message and aggregate its records. O(records), vectorised for spans.

        Every record is in `message` or is counted in a dead letter.
        """
        part = self._aggregate(data, at)
        letters = tuple(self._dead_letter(rejected, data, at) for rejected in part.rejected)
        message = None
        if part.spans is not None or part.activity or part.logs:
            found = part.found.signals
            message = FoldedMessage(
                key=f"{at.topic}|{at.partition}",
                spans=part.spans,
                activity=part.activity,
                signal=self.signal,
                logs=part.logs,
                packed_signals=RULE_SIGNALS.pack([one for one in found if isinstance(one, RuleSignal)]),
                packed_record_signals=RECORD_SIGNALS.pack([one for one in found if isinstance(one, RecordSignal)]),
                releases=part.releases,
            )
        return Folded(message, letters, _counts(part))

    @abstractmethod
    def _aggregate(self, data: bytes, at: KafkaPosition) -> _Part: ...

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


class TraceFold(Fold):
    """Spans, and the exceptions among their events as severe lines."""

    signal = "traces"

    def __init__(self, config: FoldConfig) -> None:
        super().__init__(config)
        asked = config.rules.asked("span") if config.rules else NO_ATTRIBUTES
        self._decoder = SpanDecoder(config.decode, asked)
        self._reader = LineReader(config.masks)
        self._rules = SpanRules(config.rules, config.decode.depth_max) if config.rules else None

    def _aggregate(self, data: bytes, at: KafkaPosition) -> _Part:
        spans = self._decoder.decode(data)
        if isinstance(spans, Rejected):
            return _Part((spans,))
        result = fold_spans(spans, at, self.config.times)
        exceptions = fold_exceptions(spans, result.counted, self._reader, at, self.config.times)
        return _Part(
            rejected=result.rejected,
            spans=result.batch,
            logs=exceptions.logs,
            folded=result.folded,
            late=result.late,
            exceptions_beyond=spans.exceptions_beyond,
            texts_repaired=spans.texts_repaired,
            lines_cut=exceptions.cut,
            found=self._signals(spans, result.counted, at),
        )

    def _signals(self, spans: SpanColumns, counted: NDArray[np.bool_], at: KafkaPosition) -> Found:
        if self._rules is None:
            return Found()
        return self._rules.signals(spans, counted, at, self.config.times.late_before(at.timestamp_ms))


class LogFold(Fold):
    """Log records: their patterns, and the activity of their services."""

    signal = "logs"

    def __init__(self, config: FoldConfig) -> None:
        super().__init__(config)
        self._reader = LineReader(config.masks)
        self._asked = config.rules.asked("log") if config.rules else NO_ATTRIBUTES

    def _aggregate(self, data: bytes, at: KafkaPosition) -> _Part:
        found = decode_logs(data, self.config.decode, self._asked)
        if isinstance(found, Rejected):
            return _Part((found,))
        part = logs_part(found.records, self._reader, at, self.config)
        return part._replace(texts_repaired=found.texts_repaired)


class MetricFold(Fold):
    """Metric points: the activity of their services."""

    signal = "metrics"
    is_ruled = False

    def _aggregate(self, data: bytes, at: KafkaPosition) -> _Part:
        found = decode_metrics(data, self.config.decode)
        if isinstance(found, Rejected):
            return _Part((found,))
        placed = place_records("metrics", found.records, at.timestamp_ms, self.config.times)
        return _with_activity("metrics", found.records, placed, at)._replace(texts_repaired=found.texts_repaired)


FOLDS: Final[Mapping[SignalType, type[Fold]]] = {fold.signal: fold for fold in (TraceFold, LogFold, MetricFold)}


def logs_part(records: Sequence[LogRecord], reader: LineReader, at: KafkaPosition, config: FoldConfig) -> _Part:
    """Aggregate log records; records without a usable time are counted as rejected."""
    placed = place_records("logs", records, at.timestamp_ms, config.times)
    kept = [records[place.number] for place in placed.places]
    reads = reader.read(kept)
    lines = list(map(PlacedLine, kept, placed.places, reads))
    cut = sum(read.cut for read in reads)
    found = log_signals(lines, at, config.rules) if config.rules else Found()
    return _with_activity("logs", records, placed, at)._replace(logs=fold_lines(lines, at), lines_cut=cut, found=found)


def place_records(
    signal: SignalType, records: Sequence[LogRecord | MetricPoint], timestamp_ms: int, times: TimeLimits
) -> Placed:
    """Place the records of a message that was sent at timestamp_ms, epoch ms; each is placed or counted as rejected."""
    places: list[Place] = []
    rejected: dict[RejectReason, int] = {}
    for number, record in enumerate(records):
        place = times.place(number, record.time_ns, timestamp_ms)
        reason = times.fault(place.at_ms, timestamp_ms)
        if reason:
            rejected[reason] = rejected.get(reason, 0) + 1
        else:
            places.append(place)
    faults = tuple(Rejected(reason, f"event time of {signal}", rejected[reason]) for reason in sorted(rejected))
    return Placed(tuple(places), faults)


def _with_activity(
    signal: SignalType, records: Sequence[LogRecord | MetricPoint], placed: Placed, at: KafkaPosition
) -> _Part:
    """Add the activity of each service by window, and the releases of its hosts. Late records do not count."""
    by_env: dict[str, dict[int, list[Activity]]] = {}  # by environment and start of the window
    released: dict[tuple[Resource, int], None] = {}  # by resource and start of the window, in order
    in_time = (place for place in placed.places if not place.late)
    # Records of one resource follow each other: there are few groups, and merge_activity adds up those of a service.
    groups = groupby(in_time, key=lambda place: (records[place.number].resource, place.start_ms))
    for (resource, start_ms), members in groups:
        active = by_env.setdefault(resource.env, {}).setdefault(start_ms, [])
        active.append(Activity(signal, resource.qualified_service, sum(1 for _ in members)))
        if resource.version or resource.image:
            released[resource, start_ms] = None
    late = sum(place.late for place in placed.places)
    ranges = (at.range,)
    activity = tuple(
        EnvActivity(env, merge_activity(ActivityWindow(start, tuple(seen), ranges) for start, seen in windows.items()))
        for env, windows in sorted(by_env.items())
    )
    return _Part(
        rejected=placed.rejected,
        activity=activity,
        releases=tuple(_release(resource, start_ms, at) for resource, start_ms in released),
        folded=len(placed.places),
        late=late,
    )


def _release(resource: Resource, start_ms: int, at: KafkaPosition) -> ServiceReleases:
    seen = HostRelease(resource.version, resource.image, resource.host, resource.container)
    window = ReleaseWindow(start_ms, (seen,), (at.range,))
    return ServiceReleases(resource.env, resource.qualified_service, (window,))


def _counts(part: _Part) -> tuple[tuple[MetricName, int], ...]:
    whole = sum(1 for rejected in part.rejected if not rejected.records)
    counts: list[tuple[MetricName, int]] = [
        ("records_folded_total", part.folded),
        ("records_late_total", part.late),
        ("records_rejected_total", sum(rejected.records for rejected in part.rejected)),
        ("exceptions_overflowed_total", part.exceptions_beyond),
        ("texts_repaired_total", part.texts_repaired),
        ("lines_cut_total", part.lines_cut),
        ("rule_signals_overflowed_total", part.found.beyond),
        ("messages_rejected_total", whole),
    ]
    counts += [(REJECTED[rejected.reason], rejected.records or 1) for rejected in part.rejected]
    return tuple(count for count in counts if count[1])
