"""Names that others rely on: savepoints, dashboards, consumers, configuration files. Changing one is a breaking change.

Adding is allowed: add it here in the same commit.
"""

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from jobs.graph import JOBS, GraphConfig, stages
from jobs.settings import JobConfig
from operators.detectors.latency import LatencySpike
from operators.emission import EmissionConfig
from state_schemas.contracts.counters import REJECTED, WORKER_MEMORY, LevelName, MetricName
from state_schemas.contracts.dead_letter import DeadLetter, RejectReason
from state_schemas.contracts.insight import Kind, Severity, Status
from state_schemas.contracts.settings import Topics
from state_schemas.contracts.tables import NAMESPACE, PATTERN_REGISTRY, RESOLUTIONS_S, TABLES
from state_schemas.state.call_pairs import CALL_PAIRS_CODEC
from state_schemas.state.deploys import DEPLOYS_CODEC
from state_schemas.state.gates import LOG_SILENCE_CODEC, NOVELTY_CODEC
from state_schemas.state.latency import LATENCY_CODEC
from state_schemas.state.log_patterns import PATTERNS_CODEC
from state_schemas.state.pre_aggregate import PRE_AGGREGATE_CODEC
from state_schemas.state.requests import EFFECTS_CODEC
from state_schemas.state.telemetry_gap import GAP_CODEC
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.service_window import ServiceKey
from udfs.insights.ids import insight_id, service_key

UIDS = [
    *("pre-aggregate-traces", "pre-aggregate-logs", "pre-aggregate-metrics"),
    *("call-pairs", "latency-spike", "error-patterns", "error-patterns-traces", "novelty", "novelty-traces"),
    *("request-effects", "log-silence", "telemetry-gap", "deploys"),
]


def test_uids_of_stages() -> None:
    assert [stage.uid for stage in stages(GraphConfig())] == UIDS
    latency = ["pre-aggregate-traces", "call-pairs", "latency-spike"]
    assert [stage.uid for stage in JOBS["latency-spikes"].stages(GraphConfig())] == latency
    patterns = ["pre-aggregate-traces", "pre-aggregate-logs", "error-patterns", "error-patterns-traces"]
    patterns += ["novelty", "novelty-traces"]
    assert [stage.uid for stage in JOBS["error-patterns"].stages(GraphConfig())] == patterns


def test_names_and_versions_of_codecs() -> None:
    codecs = (
        *(PRE_AGGREGATE_CODEC, CALL_PAIRS_CODEC, LATENCY_CODEC, GAP_CODEC),
        *(PATTERNS_CODEC, NOVELTY_CODEC, EFFECTS_CODEC, LOG_SILENCE_CODEC),
        DEPLOYS_CODEC,
    )
    assert [(codec.name, codec.version, sorted(codec.readers)) for codec in codecs] == [
        ("pre-aggregate", 1, [1]),
        ("call-pairs", 1, [1]),
        ("latency-spike", 1, [1]),
        ("telemetry-gap", 1, [1]),
        ("error-patterns", 1, [1]),
        ("novelty", 1, [1]),
        ("request-effects", 1, [1]),
        ("log-silence", 1, [1]),
        ("deploys", 1, [1]),
    ]


def test_the_state_of_the_latency_machine_keeps_its_meaning() -> None:
    """Another text here and every service starts afresh after a restore."""
    assert LatencySpike(SpikeConfig(), EmissionConfig()).fingerprint == "window_ms=10000 bins=1142 growth=1.0195"


def test_topic_names() -> None:
    assert Topics().model_dump() == {
        "traces": "trace_events",
        "logs": "logs_raw",
        "metrics": "metrics_rollup",
        "rules": "",
        "insights": "insight_out",
        "rejected": "insight_rejected",
    }


def test_tables_and_their_columns() -> None:
    assert NAMESPACE == "insights"
    assert {table.name: [f"{column.name}:{column.type}" for column in table.columns] for table in TABLES} == {
        "latency_rollups": [
            *("env:string", "site_id:string", "service:string", "dimension:string", "name:string"),
            *("span_kind:string", "resolution_s:int", "window_start:timestamptz", "late:boolean", "count:long"),
            *("error_count:long", "latency_ms_p50:double", "latency_ms_p95:double", "latency_ms_p99:double"),
            *("sketch:binary", "namespace:string"),
        ],
        "service_edges": [
            *("env:string", "site_id:string", "service:string", "callee:string", "resolution_s:int"),
            *("window_start:timestamptz", "late:boolean", "count:long", "error_count:long", "latency_ms_p50:double"),
            *("latency_ms_p95:double", "latency_ms_p99:double", "gap_ms_p50:double", "gap_ms_p95:double"),
            *("clock_skew_ms_p50:double", "sketch:binary", "namespace:string", "callee_namespace:string"),
        ],
        "error_patterns": [
            *("env:string", "site_id:string", "service:string", "source:string", "resolution_s:int"),
            *("window_start:timestamptz", "late:boolean", "rank:int", "pattern_id:string", "template:string"),
            *("severity_number:int", "count:long", "total:long", "namespace:string"),
        ],
        "pattern_registry": [
            *("env:string", "service:string", "source:string", "pattern_id:string", "template:string"),
            *("first_seen:timestamptz", "alias_of:string", "at:timestamptz", "namespace:string"),
        ],
        "insights": [
            *("insight_id:string", "revision:int", "status:string", "kind:string", "env:string", "site_id:string"),
            *("service:string", "subject:string", "window_start:timestamptz", "window_end:timestamptz"),
            *("severity:string", "confidence:double", "cold_start:boolean", "title:string", "body:string"),
            "namespace:string",
        ],
        "sequence_matches": [
            *("insight_id:string", "revision:int", "status:string", "env:string", "service:string"),
            *("rule_id:string", "rule_version:int", "is_missing:boolean", "severity:string"),
            *("window_start:timestamptz", "window_end:timestamptz", "matches:long", "timeline:string"),
            *("title:string", "namespace:string"),
        ],
    }
    for table in TABLES:
        hour = () if table is PATTERN_REGISTRY else (("window_start", "hour"),)  # names have no window
        assert table.partition == (*hour, ("env", "identity"), ("service", "bucket[16]"))
        assert {name for name, _ in table.partition} | set(table.sort) <= {column.name for column in table.columns}
    assert RESOLUTIONS_S == (10, 60, 300)


def test_metric_names() -> None:
    assert sorted(get_args(MetricName)) == [
        "call_sides_dropped_total",
        "calls_paired_total",
        "deploys_suppressed_total",
        "envs_overflowed_total",
        "exceptions_overflowed_total",
        "insights_emitted_total",
        "insights_known_elsewhere_total",
        "insights_unreadable_total",
        "lines_cut_total",
        "lines_overflowed_total",
        "messages_rejected_total",
        "names_overflowed_total",
        "partial_matches_given_up_total",
        "patterns_evicted_total",
        "records_behind_total",
        "records_folded_total",
        "records_late_total",
        "records_rejected_total",
        *sorted(f"rejected_{reason}_total" for reason in get_args(RejectReason)),
        "releases_overflowed_total",
        "rule_edges_overflowed_total",
        "rule_records_rejected_total",
        "rule_signals_late_total",
        "rule_signals_overflowed_total",
        "sequence_matches_total",
        "services_overflowed_total",
        "states_forgotten_total",
        "states_reset_total",
        "texts_repaired_total",
    ]


def test_names_of_levels() -> None:
    assert (*get_args(LevelName), WORKER_MEMORY) == ("partial_matches", "worker_memory_bytes")


def test_every_reason_has_its_counter() -> None:
    assert dict(REJECTED) == {reason: f"rejected_{reason}_total" for reason in get_args(RejectReason)}


def test_reject_reasons_and_dead_letters() -> None:
    assert get_args(RejectReason) == (
        *("malformed_protobuf", "malformed_json", "empty", "too_large", "too_deep"),
        *("end_before_start", "no_time", "future", "too_old", "invalid_insight", "duplicate_span"),
    )
    assert DeadLetter.__struct_fields__ == (
        *("reason", "detail", "records", "topic", "partition", "offset"),
        *("timestamp_ms", "length_bytes", "sha256", "payload"),
    )


def test_words_of_an_insight() -> None:
    assert get_args(Status) == ("open", "updated", "closed", "retracted")
    assert get_args(Severity) == ("info", "warning", "critical")
    assert get_args(Kind) == (
        *("latency_spike", "error_ratio", "error_pattern_new", "error_pattern_returned", "error_pattern_surge"),
        *("pattern_missing", "trace_shape_change", "metric_shift", "sequence_match", "sequence_missing"),
        *("incident", "telemetry_gap", "rule_rejected", "deploy"),
    )


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        section = isinstance(inner, type) and issubclass(inner, BaseModel)
        found += _keys(inner, f"{prefix}{name}.") if section else [prefix + name]
    return sorted(found)


def test_configuration_keys() -> None:
    topics = [f"kafka.topics.{name}" for name in ("insights", "logs", "metrics", "rejected", "rules", "traces")]
    expected = {
        *topics,
        *("name", "lake.uri", "lake.warehouse", "lake.user", "lake.password_file", "lake.properties"),
        *("lake.token_file", "lake.credential_file", "lake.s3.endpoint", "lake.s3.region", "lake.s3.credentials_file"),
        *("kafka.bootstrap_servers", "kafka.group_id", "kafka.start", "kafka.bounded", "kafka.out_of_order_ms"),
        *("kafka.idle_ms", "kafka.guarantee", "kafka.transaction_timeout_ms", "kafka.properties", "kafka.outage_ms"),
        *("links.trace", "links.logs", "engine.checkpoint_timeout_ms"),
        *("engine.parallelism", "engine.max_parallelism", "engine.checkpoint_interval_ms", "engine.checkpoint_dir"),
        *("engine.state_backend", "engine.bundle_size", "engine.bundle_time_ms", "engine.python", "engine.flink"),
        *("detection.lateness_ms", "detection.future_max_ms", "detection.age_max_ms", "detection.services_max"),
        *("detection.hosts_max", "detection.operations_max", "detection.dead_letter_payload"),
        "detection.emit_when",
        "detection.call_pair_ms",
        "detection.callees_max",
        "detection.envs_max",
        "detection.latency_floor_ms",
        "detection.masks",
        "detection.pattern_insights",
        "detection.pattern_seeds",
        "detection.patterns_max",
        "detection.patterns_top",
        "detection.patterns_warm_minutes",
        "detection.rules",
        "detection.shipped_rules",
    }
    assert set(_keys(JobConfig)) == expected


def test_an_insight_id_is_the_same_on_every_machine() -> None:
    assert insight_id("latency_spike", "prod", "cart", "", 1_700_000_000_000) == "77c086174b97966312e6464e7b571d10"


@pytest.mark.parametrize("service", ["cart", "a|b", "", "ü"])
def test_a_service_key_splits_into_what_it_was_made_of(service: str) -> None:
    assert ServiceKey.of(service_key("prod", service)) == ("prod", service)
