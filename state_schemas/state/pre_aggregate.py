"""State of pre-aggregation, one for each source partition."""

from typing import Final

import msgspec

from state_schemas.aggregates.activity import ActivityWindow
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.releases import ServiceReleases
from state_schemas.aggregates.rule_signals import RecordSignal, RuleSignal
from state_schemas.aggregates.spans import SpanBatch
from state_schemas.codec import packed


class PreAggregateState(msgspec.Struct, array_like=True, gc=False):
    """Aggregates that wait for the next flush, under accepted names, and the names of one source partition."""

    spans: list[SpanBatch] = msgspec.field(default_factory=list)
    # By environment.
    activity: dict[str, list[ActivityWindow]] = msgspec.field(default_factory=dict)
    # Environment -> service -> event time it was last seen; at most `services_max` services in an environment, and
    # `envs_max` environments beside `other`.
    known: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    # Size of the spans, activity windows and lines by pattern since the last flush, expressed in spans.
    waiting: int = 0
    # Number of messages since the last flush.
    messages: int = 0
    logs: list[LogAggregate] = msgspec.field(default_factory=list)
    # Environment -> service -> reports that the service has spans: the number since the epoch of the newest interval of
    # `activity_report_ms` that was reported; its lowest 4 bits mark which of the last four intervals were reported.
    reported: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    releases: list[ServiceReleases] = msgspec.field(default_factory=list)
    # Environment -> service -> hash of a release and its host -> start of the window that was reported of the newest
    # interval of `activity_report_ms`, which is the number under 0; at most RELEASES_MAX of a service.
    reported_releases: dict[str, dict[str, dict[int, int]]] = msgspec.field(default_factory=dict)
    # Signals of rules since the last flush.
    signals: list[RuleSignal] = msgspec.field(default_factory=list)
    record_signals: list[RecordSignal] = msgspec.field(default_factory=list)


PRE_AGGREGATE_CODEC: Final = packed("pre-aggregate", PreAggregateState)
