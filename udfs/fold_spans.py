"""Fold the spans of one Kafka message into a few partials; what cannot be counted becomes Rejected with its number.

An event's time is the *end* of its span, so that slow spans are not the late ones.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.partials import OffsetRange, SpanPartial
from state_schemas.telemetry import Rejected, RejectReason, SpanColumns
from udfs.span_groups import group_spans


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How a record's event time is judged against its message's Kafka timestamp, and cut into panes.

    lateness_ms: older than timestamp - lateness is `late`: in the roll-ups, not in detection.
    future_max_ms: beyond timestamp + this is rejected as `future`. age_max_ms: older than this is `too_old`: such a
    record would open partitions of the distant past (a producer of recordings sets the record timestamp).
    """

    pane_ms: int = 10_000
    lateness_ms: int = 120_000
    future_max_ms: int = 300_000
    age_max_ms: int = 7 * 24 * 3_600_000


class KafkaPosition(NamedTuple):
    """Where a message lies. timestamp_ms: the record timestamp, epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class FoldResult(NamedTuple):
    """partials: one for each (env, service), ascending. folded and late count spans."""

    partials: tuple[SpanPartial, ...]
    rejected: tuple[Rejected, ...]
    folded: int
    late: int


def fold_spans(spans: SpanColumns, at: KafkaPosition, limits: TimeLimits) -> FoldResult:
    """Each span is in exactly one partial or counted in exactly one Rejected. O(spans log spans), vectorised."""
    ok, rejected = _judge(spans, at, limits)
    chosen = np.flatnonzero(ok)
    if not len(chosen):
        return FoldResult((), rejected, 0, 0)
    offsets = (OffsetRange(at.topic, at.partition, at.offset, at.offset),)
    late_before_ms = at.timestamp_ms - limits.lateness_ms
    groups = group_spans(spans, chosen, (limits.pane_ms, late_before_ms), offsets)
    partials = tuple(
        SpanPartial(env, service, tuple((group.pane_start_ms, group.late, group.block) for group in same))
        for (env, service), same in groupby(groups, key=lambda group: group.service)
    )
    late = int((spans.end_ns[chosen].astype(np.int64) // 1_000_000 < late_before_ms).sum())
    return FoldResult(partials, rejected, len(chosen), late)


def _judge(spans: SpanColumns, at: KafkaPosition, limits: TimeLimits) -> tuple[NDArray[np.bool_], tuple[Rejected, ...]]:
    """Which spans count, and the counted reasons of the rest; the first reason that fits is given."""
    ns = 1_000_000
    end, start = spans.end_ns, spans.start_ns
    newest = _held((at.timestamp_ms + limits.future_max_ms) * ns)
    oldest = _held((at.timestamp_ms - limits.age_max_ms) * ns)
    checks: tuple[tuple[RejectReason, NDArray[np.bool_], str], ...] = (
        ("no_time", (end == 0) | (start == 0), "start or end of a span is 0, expected epoch nanoseconds"),
        ("end_before_start", end < start, "end_time_unix_nano before start_time_unix_nano; mend the producer's clock"),
        ("future", end > newest, f"event time more than {limits.future_max_ms} ms after the Kafka timestamp"),
        ("too_old", end < oldest, f"event time more than {limits.age_max_ms} ms before the Kafka timestamp"),
        ("duplicate_span", _repeated(spans), "the same trace id and span id stand twice in one message"),
    )
    ok = np.ones(len(end), np.bool_)
    rejected = []
    for reason, bad, detail in checks:
        found = int((bad & ok).sum())
        ok &= ~bad
        if found:
            rejected.append(Rejected(reason, detail, found))
    return ok, tuple(rejected)


def _held(at_ns: int) -> np.uint64:
    """The time, or the nearest that fits: a producer may write nanoseconds where Kafka expects milliseconds."""
    return np.uint64(max(0, min(at_ns, 2**63 - 1)))


def _repeated(spans: SpanColumns) -> NDArray[np.bool_]:
    """True for the second and later of spans with equal ids; spans without a span id are never equal."""
    ids = np.concatenate((spans.trace_id, spans.span_id), axis=1)
    words = np.ascontiguousarray(ids).view(np.uint64)  # (n, 3)
    order = np.lexsort((words[:, 0], words[:, 1], words[:, 2]))
    ordered = words[order]
    same = np.zeros(len(words), np.bool_)
    same[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)  # lexsort is stable: the first of equals stays
    repeated: NDArray[np.bool_] = same & (words[:, 2] != 0)
    return repeated
