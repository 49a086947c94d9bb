"""Fold of the spans of one Kafka message into a batch; spans that cannot be counted are counted in a Rejected.

The event time of a span is its *end*: with its start, slow spans would be late.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.calls import CALL_SIDE_DTYPE
from state_schemas.aggregates.spans import EXEMPLAR_DTYPE, GROUP_DTYPE, SPAN_DTYPE, SpanBatch
from state_schemas.contracts.dead_letter import Rejected, RejectReason
from state_schemas.telemetry.message import KafkaPosition, OffsetRange
from state_schemas.telemetry.spans import ENTRY_KINDS, KIND_CLIENT, KIND_SERVER, SpanColumns
from udfs.event_time import TimeLimits
from udfs.otlp.resource import NAME_CHARS_MAX, short_name
from udfs.service_info import ranked
from udfs.spans.calls import trace_hash
from udfs.spans.kernels import exemplars_of, hash_table, intern_groups, repeated, smallest_of
from udfs.stats.duration_histogram import bins_of

_NS_PER_MS: Final = 1_000_000

# Number of client spans, and of server spans, of a service and window that one message sends to be paired: those with
# the smallest hashes of the call. So both sides choose the same calls, and a trace with many calls displaces no others.
CALL_SIDES_MAX: Final = 4

T = TypeVar("T", str, tuple[str, str], tuple[str, str, str, str])

_Ints = NDArray[np.int64]


class FoldResult(NamedTuple):
    """Batch of one message, and its counts."""

    # None where no span is accepted.
    batch: SpanBatch | None
    rejected: tuple[Rejected, ...]
    # Number of accepted spans, late ones included.
    folded: int
    # Number of late spans.
    late: int
    # bool (spans,): True for each accepted span.
    counted: NDArray[np.bool_]


def fold_spans(spans: SpanColumns, at: KafkaPosition, limits: TimeLimits) -> FoldResult:
    """Fold spans: each one is in the batch or is counted in exactly one Rejected.

    O(spans + names log names), vectorised.
    """
    ok, rejected = _judge(spans, at, limits)
    chosen = np.flatnonzero(ok)
    if not len(chosen):
        return FoldResult(None, rejected, 0, 0, ok)
    batch = _batch(spans, chosen, at, limits)
    groups = np.frombuffer(batch.groups, GROUP_DTYPE)
    return FoldResult(batch, rejected, len(chosen), int(groups["count"][groups["late"] == 1].sum()), ok)


def _batch(spans: SpanColumns, chosen: _Ints, at: KafkaPosition, limits: TimeLimits) -> SpanBatch:
    resources = spans.resources
    service_of, services = _index([(r.env, r.qualified_service) for r in resources])
    host_of, hosts = _index([r.host for r in resources])
    info_index, infos = _index([(r.version, r.image, r.container, r.site_id) for r in resources])
    operation_of, operations = _index(_short(spans.names))
    resource = spans.resource[chosen]
    start_ns, end_ns = (ns[chosen].astype(np.int64) for ns in (spans.start_ns, spans.end_ns))
    end_ms = end_ns // _NS_PER_MS
    late = end_ms < limits.late_before(at.timestamp_ms)
    window = end_ms // limits.window_ms * 2 + late
    codes = window * len(services) + service_of[resource]
    keys, group = np.empty(len(chosen), np.int64), np.empty(len(chosen), np.int32)
    keys = keys[: intern_groups(codes, keys, hash_table(len(chosen)), group)]

    found = np.empty(len(chosen), SPAN_DTYPE)
    found["group"] = group
    found["host"] = host_of[resource]
    found["operation"] = operation_of[spans.name[chosen]]
    found["bin"] = bins_of(end_ns - start_ns)
    found["kind"] = spans.kind[chosen]
    found["error"] = spans.error[chosen]

    newest = np.zeros(len(keys), np.int64)
    np.maximum.at(newest, group, end_ms * len(infos) + info_index[resource])
    groups = np.zeros(len(keys), GROUP_DTYPE)
    groups["start_ms"] = keys // len(services) // 2 * limits.window_ms
    groups["late"] = keys // len(services) % 2
    groups["service"] = keys % len(services)
    groups["newest_ms"], groups["info"] = np.divmod(newest, len(infos))
    groups["count"] = np.bincount(group, minlength=len(keys))
    trace_id = spans.trace_id[chosen]
    exemplars = _exemplars(found, end_ns - start_ns, trace_id, len(groups)).tobytes()
    sides = _call_sides(spans, chosen, found, len(groups)).tobytes()
    if len(set(zip(service_of.tolist(), info_index.tolist(), strict=True))) > len(services):
        groups = np.concatenate([groups, _attribute_rows(groups, group, end_ms, info_index[resource], infos)])
    return SpanBatch(
        at=OffsetRange(at.topic, at.partition, at.offset, at.offset),
        sent_ms=at.timestamp_ms,
        services=tuple(services),
        hosts=tuple(hosts),
        operations=tuple(operations),
        infos=tuple(infos),
        spans=found.tobytes(),
        groups=groups.tobytes(),
        exemplars=exemplars,
        sides=sides,
    )


def _attribute_rows(
    groups: NDArray[np.void],
    group: NDArray[np.int32],
    end_ms: _Ints,
    info_index: _Ints,
    infos: Sequence[tuple[str, ...]],
) -> NDArray[np.void]:
    """Return group rows without spans that repeat, for each attribute of `infos`, the newest span that has it.

    group, end_ms, info_index: one element for each span. Seldom needed: the resources of a service are mostly equal.
    """
    rows: set[tuple[int, int, int]] = set()
    for attribute in zip(*infos, strict=True):
        rank_of, _ = ranked(attribute)
        rank = rank_of[info_index]
        order = np.lexsort((rank, end_ms, group))
        order = order[rank[order] > 0]
        last = order[np.flatnonzero(np.diff(group[order], append=-1))]
        rows.update(zip(group[last].tolist(), end_ms[last].tolist(), info_index[last].tolist(), strict=True))
    newest = np.array(sorted(rows), np.int64).reshape(-1, 3)
    extra: NDArray[np.void] = groups[newest[:, 0]]
    extra["newest_ms"], extra["info"] = newest[:, 1], newest[:, 2]
    extra["count"] = 0
    return extra


def _exemplars(
    found: NDArray[np.void], duration_ns: _Ints, trace_id: NDArray[np.uint8], groups: int
) -> NDArray[np.void]:
    """Return the slowest, the sampled and the failing entry spans of each group; only spans with a trace id."""
    words = np.ascontiguousarray(trace_id).view(">u8").astype(np.uint64)
    entry = np.flatnonzero(np.isin(found["kind"], list(ENTRY_KINDS)) & words.any(axis=1))
    candidates = np.empty(len(entry), EXEMPLAR_DTYPE)
    candidates["duration_ns"] = duration_ns[entry]
    candidates["high"], candidates["low"] = words[entry].T
    for field in ("group", "host", "operation"):
        candidates[field] = found[field][entry]
    return exemplars_of(candidates, (3 + 4 * found["error"][entry]).astype(np.uint8), groups)


def _call_sides(spans: SpanColumns, chosen: _Ints, found: NDArray[np.void], groups: int) -> NDArray[np.void]:
    """Return the call sides: client spans, and server spans with a parent, that have a trace id and a span id."""
    span, parent = (_word(ids)[chosen] for ids in (spans.span_id, spans.parent_span_id))
    is_server = found["kind"] == KIND_SERVER
    place = np.flatnonzero(((found["kind"] == KIND_CLIENT) | (is_server & (parent != 0))) & (span != 0))
    words = np.ascontiguousarray(spans.trace_id[chosen[place]]).view(">u8").astype(np.uint64)
    place, words = place[words.any(axis=1)], words[words.any(axis=1)]
    side = found["group"][place].astype(np.int64) * 2 + is_server[place]
    call = np.where(is_server[place], parent[place], span[place])
    rank = trace_hash(trace_hash(words[:, 0], words[:, 1]), call)
    kept = smallest_of(rank, side, 2 * groups, CALL_SIDES_MAX)
    place, words = place[kept], words[kept]
    sides = np.empty(len(place), CALL_SIDE_DTYPE)
    sides["high"], sides["low"] = words.T
    sides["span"] = span[place]
    sides["parent"] = np.where(is_server[place], parent[place], 0)
    sides["end_ns"] = spans.end_ns[chosen[place]]
    sides["duration_ns"] = sides["end_ns"] - spans.start_ns[chosen[place]].astype(np.int64)
    sides["place"] = place
    return sides


def _word(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(ids).view(">u8")[:, 0].astype(np.uint64)


def _short(names: tuple[str, ...]) -> list[str]:
    if max(map(len, names), default=0) <= NAME_CHARS_MAX:
        return list(names)
    return [short_name(name) for name in names]


def _index(values: list[T]) -> tuple[_Ints, list[T]]:
    """Return the index of each value among the distinct values, and these, ascending."""
    distinct = sorted(set(values))
    index_of = {value: index for index, value in enumerate(distinct)}
    return np.array([index_of[value] for value in values], dtype=np.int64), distinct


def _judge(spans: SpanColumns, at: KafkaPosition, limits: TimeLimits) -> tuple[NDArray[np.bool_], tuple[Rejected, ...]]:
    """Return a mask of the accepted spans, and the counted reasons for the others; a span gets its first reason."""
    end, start = spans.end_ns, spans.start_ns
    newest = _clamped(limits.newest_ms(at.timestamp_ms) * _NS_PER_MS)
    oldest = _clamped(limits.oldest_ms(at.timestamp_ms) * _NS_PER_MS)
    checks: tuple[tuple[RejectReason, NDArray[np.bool_], str], ...] = (
        ("no_time", (end == 0) | (start == 0), "start or end of a span is 0, expected epoch nanoseconds"),
        ("end_before_start", end < start, "end_time_unix_nano before start_time_unix_nano; mend the producer's clock"),
        ("future", end > newest, f"event time more than {limits.future_max_ms} ms after the Kafka timestamp"),
        ("too_old", end < oldest, f"event time more than {limits.age_max_ms} ms before the Kafka timestamp"),
    )
    ok = np.ones(len(end), np.bool_)
    rejected = []
    for reason, bad, detail in checks:
        if bad.any():
            rejected.append(Rejected(reason, detail, int((bad & ok).sum())))
            ok &= ~bad
    # Duplicates come last: of spans with equal ids the first acceptable one is counted.
    ids = np.concatenate((spans.trace_id, spans.span_id), axis=1)
    again = repeated(ids.view(np.uint64), ok)
    if again.any():
        detail = "the same trace id and span id twice in one message"
        rejected.append(Rejected("duplicate_span", detail, int(again.sum())))
        ok &= ~again
    return ok, tuple(fault for fault in rejected if fault.records)


def _clamped(at_ns: int) -> np.uint64:
    """Return the time, clamped to 0..2**63 - 1: a producer may write nanoseconds where Kafka expects milliseconds."""
    return np.uint64(max(0, min(at_ns, 2**63 - 1)))
