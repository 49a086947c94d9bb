"""Names of the counters of the job. Flink shows them for each step in its REST API and dashboard."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, cast, get_args

from state_schemas.contracts.dead_letter import RejectReason

MetricName = Literal[
    # Folds. Records are spans, log records or metric points.
    "records_folded_total",  # accepted, late ones included
    "records_late_total",  # event time older than the Kafka timestamp - lateness_ms: in the roll-ups, not in detection
    "records_rejected_total",  # in dead letters on insight_rejected; by reason below
    "exceptions_overflowed_total",  # exceptions beyond the first eight of their span: in no pattern and no count
    "texts_repaired_total",  # names, values and lines that were not UTF-8: their invalid bytes became U+FFFD
    "lines_cut_total",  # lines longer than line_bytes_max, or traces longer than 16,384 characters: read in part
    "messages_rejected_total",  # whole messages that could not be decoded; by reason below
    "rejected_malformed_protobuf_total",  # by reason: messages
    "rejected_malformed_json_total",
    "rejected_empty_total",
    "rejected_too_large_total",
    "rejected_too_deep_total",
    "rejected_end_before_start_total",  # by reason: records
    "rejected_no_time_total",
    "rejected_future_total",
    "rejected_too_old_total",
    "rejected_duplicate_span_total",
    "rejected_invalid_insight_total",
    # Pre-aggregation.
    "services_overflowed_total",  # service names of a message counted as `other`: raise services_max or fix the names
    "envs_overflowed_total",  # environment names of a message counted as `other`: raise envs_max or fix the names
    "releases_overflowed_total",  # versions and images of hosts beyond 1,000 of a service: not watched for deploys
    # Keyed machines.
    "calls_paired_total",  # client spans that found their server span
    "call_sides_dropped_total",  # call sides of a share of all traces, not paired because their bucket was full
    "names_overflowed_total",  # rows `other` of 10 s: raise hosts_max, operations_max, callees_max or fix the names
    "lines_overflowed_total",  # severe lines whose pattern had no room in the registry: raise patterns_max
    "patterns_evicted_total",  # patterns not seen for long, dropped from the registry to make room for new ones
    "records_behind_total",  # accepted but behind (their partition was idle): treated as late
    "deploys_suppressed_total",  # deploys of a service beyond six in an hour: known from then on, without an insight
    "rule_signals_overflowed_total",  # records that fulfil a step of a rule, beyond 200 of a message
    "rule_signals_late_total",  # insights that opened too late to be a signal of a sequence rule
    "sequence_matches_total",  # insights of sequence rules, those that were taken back included
    "rule_edges_overflowed_total",  # rows of calls between services beyond 5,000 pairs of an environment: no relation
    "partial_matches_given_up_total",  # of sequence rules: partial matches, subjects and signals beyond their limits
    "insights_unreadable_total",  # messages of insight_out that are no insight v1, read by the job of rules alone
    "rule_records_rejected_total",  # records of the rules topic that are no rule: an insight `rule_rejected` says why
    "states_forgotten_total",  # idle keys whose state was dropped
    "states_reset_total",  # states written under other parameters, discarded and started again
    "insights_known_elsewhere_total",  # revisions held back: other services have the error, or the logs contain it
    "insights_emitted_total",  # revisions of insights, all kinds
]

LevelName = Literal[
    "partial_matches",  # of sequence rules, over the keys that a subtask has seen since it started
]

# Memory of the Python process in which a fold runs; all steps of a slot run in that process.
WORKER_MEMORY: Final = "worker_memory_bytes"

REJECTED: Final[Mapping[RejectReason, MetricName]] = MappingProxyType(
    {reason: cast(MetricName, f"rejected_{reason}_total") for reason in get_args(RejectReason)}
)
