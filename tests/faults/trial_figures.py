"""Figures of the trial: what was found of each fault, the course of each insight, and what the commands printed."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, Final

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reasoner.clients import lake
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.trial_shell import Done, Seen, Shell
from tests.services.job_runs import ClusterJob, committed_records

EARLY_MS: Final = 15_000  # a window that begins so long before a fault can have its first spans
BEFORE: Final = "before F1"
_HEAD: Final = re.compile(
    r"\d\d-\d\d \d\d:\d\d:\d\d  (info    |warning |critical)  (open|updated|closed|retracted) .* [0-9a-f]{16,}"
)


def by_id(seen: Sequence[Seen]) -> list[list[Seen]]:
    """Return the revisions of each insight, ascending, in the order of the first ones."""
    ordered = sorted(seen, key=lambda each: (each.insight.insight_id, each.insight.revision))
    groups = [list(group) for _, group in groupby(ordered, key=lambda each: each.insight.insight_id)]
    return sorted(groups, key=lambda revisions: (revisions[0].insight.window.start_ms, revisions[0].insight.insight_id))


def found(played: Mapping[str, float], seen: Sequence[Seen]) -> dict[str, list[dict[str, Any]]]:
    """Return by fault the insights that begin in it or in the pause after it.

    played: fault -> when it began, epoch s. From then on count begins_after_s, to the first window of the insight, and
    seen_after_s, until a reader had the first revision; before F1 they are negative.
    """
    entries: dict[str, list[dict[str, Any]]] = {fault: [] for fault in (BEFORE, *played)}
    for revisions in by_id(seen):
        first, last = revisions[0], revisions[-1].insight
        start_ms = first.insight.window.start_ms + EARLY_MS
        fault = max(
            (name for name in played if start_ms >= played[name] * 1_000), key=lambda name: played[name], default=BEFORE
        )
        began_s = played.get(fault, min(played.values()))
        entry = {
            "service": last.service,
            "kind": last.kind,
            "title": first.insight.title,
            "begins_after_s": round(first.insight.window.start_ms / 1_000 - began_s),
            "seen_after_s": round(first.at_s - began_s),
            "course": " ".join(each.insight.status for each in revisions),
            "reason": last.reason,
        }
        entries[fault].append(entry)
    return entries


def courses(seen: Sequence[Seen]) -> dict[str, int]:
    """Count insights, revisions and what no reader should get: a revision twice, one that says nothing new, and one
    after the end."""
    groups = by_id(seen)
    pairs = [(a.insight, b.insight) for revisions in groups for a, b in pairwise(revisions)]
    counts = Counter((each.insight.insight_id, each.insight.revision) for each in seen)
    return {
        "insights": len(groups),
        "revisions": len(seen),
        "revisions_twice": sum(number - 1 for number in counts.values()),
        "revisions_without_news": sum(_without_number(a) == _without_number(b) for a, b in pairs),
        "revisions_after_closed": sum(a.status in ("closed", "retracted") for a, _ in pairs),
        "opened_twice": sum(b.status == "open" for _, b in pairs),
    }


def _without_number(insight: Insight) -> Insight:
    return msgspec.structs.replace(insight, revision=0)


def counted(job: ClusterJob, before_ms: int) -> dict[str, Any]:
    """Return the spans that the Collector wrote to Kafka, by protobuf's own parser, and those of the roll-ups by
    resolution: in windows that start before a time, epoch ms, which is a boundary of every resolution."""
    kafka = job.config.kafka
    bodies = [record.value for record in committed_records(kafka.bootstrap_servers, kafka.topics.traces)]
    parts = (part for body in bodies for part in ExportTraceServiceRequest.FromString(body).resource_spans)
    ends = [span.end_time_unix_nano for part in parts for scope in part.scope_spans for span in scope.spans]
    rows = lake.read(
        job.config.lake,
        "latency_rollups",
        row_filter="dimension = 'service'",
        selected_fields=("resolution_s", "window_start", "count"),
    ).to_pylist()
    sums = dict.fromkeys(RESOLUTIONS_S, 0)
    for row in rows:
        sums[row["resolution_s"]] += row["count"] * (row["window_start"].timestamp() * 1_000 < before_ms)
    return {
        "spans": len(ends),
        "spans_in_whole_windows": sum(end_ns < before_ms * 1_000_000 for end_ns in ends),
        "spans_in_rollups": sums,
        "dead_letters": len(job.dead_letters()),
    }


def tail_lines(tail: Done) -> dict[str, int]:
    """Count what `insights tail` printed: two lines a revision, the first with time, severity, status and id."""
    lines = tail.output.removesuffix("reasoner: interrupted\n").splitlines()
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    return {
        "revisions": len(pairs),
        "without_time_severity_status_id": sum(_HEAD.fullmatch(head) is None for head, _ in pairs),
        "said_twice": len(pairs) - len(set(pairs)),
    }


def outputs(shell: Shell) -> dict[str, Any]:
    """Count the commands, and those whose output has a traceback of Python or Java."""
    (tail,) = [done for done in shell.transcript if "insights tail" in done.command and done.code == 130]
    return {"commands": len(shell.transcript), "with_a_traceback": shell.with_tracebacks(), "tail": tail_lines(tail)}
