"""Result of folding one Kafka message."""

import msgspec

from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.releases import ServiceReleases
from state_schemas.aggregates.rule_signals import RECORD_SIGNALS, RULE_SIGNALS, RecordSignal, RuleSignal
from state_schemas.aggregates.spans import SpanBatch
from state_schemas.telemetry.signals import SignalType


class FoldedMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Aggregates of one Kafka message."""

    # `topic|partition`, the key of pre-aggregation.
    key: str
    spans: SpanBatch | None
    # Activity in logs and metrics. Activity in traces is computed from the spans.
    activity: tuple[EnvActivity, ...]
    # Signal type of the topic of the message.
    signal: SignalType
    # Lines by pattern, one aggregate for each service. For a message of traces: the exceptions of its spans.
    logs: tuple[LogAggregate, ...] = ()
    # Records that fulfil a step of a rule that has insights too, and of one that has records alone.
    # Packed by `RULE_SIGNALS` and `RECORD_SIGNALS`.
    packed_signals: bytes = b""
    packed_record_signals: bytes = b""
    # Releases in logs and metrics, one window each, not merged. Those in traces are in `spans`.
    releases: tuple[ServiceReleases, ...] = ()

    @property
    def signals(self) -> tuple[RuleSignal, ...]:
        return RULE_SIGNALS.unpack(self.packed_signals)

    @property
    def record_signals(self) -> tuple[RecordSignal, ...]:
        return RECORD_SIGNALS.unpack(self.packed_record_signals)
