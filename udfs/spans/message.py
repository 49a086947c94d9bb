"""Fold of the spans of one Kafka message into a batch; spans that cannot be counted are counted in a Rejected.

The event time of a span is its *end*: with its start, slow spans would be late.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.calls import CALL_SIDE_DTYPE
from state_schemas.aggregates.spans import EXEMPLAR_DTYPE, GROUP_DTYPE, SOURCE_DTYPE, SPAN_DTYPE, SpanBatch
from state_schemas.contracts.dead_letter import Rejected, RejectReason
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.spans import ENTRY_KINDS, KIND_CLIENT, KIND_SERVER, SpanColumns
from udfs.event_time import TimeLimits
from udfs.otlp.resource import NAME_CHARS_MAX, short_name
from udfs.service_info import ranked
from udfs.spans.calls import trace_hash
from udfs.spans.joined import JoinedNames
from udfs.spans.kernels import exemplars_of, numbered, repeated, smallest_of
from udfs.stats.duration_histogram import bins_of

_NS_PER_MS: Final = 1_000_000

# Number of client spans, and of server spans, of a service and window that one message sends to be paired: those with
# the smallest hashes of the call. So both sides choose the same calls, and a trace with many calls displaces no others.
CALL_SIDES_MAX: Final = 4

_PER_SPAN: Final = ("resource", "name", "start_ns", "end_ns", "kind", "error", "trace_id", "span_id", "parent_span_id")
_Records = NDArray[np.void]
_Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]  # (spans, 2): a trace id as two big-endian words


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
    if not ok.any():
        return FoldResult(None, rejected, 0, 0, ok)
    batch = _batch(_accepted(spans, ok), at, limits)
    groups = np.frombuffer(batch.groups, GROUP_DTYPE)
    return FoldResult(batch, rejected, int(ok.sum()), int(groups["count"][groups["late"] == 1].sum()), ok)


def _accepted(spans: SpanColumns, ok: NDArray[np.bool_]) -> SpanColumns:
    if ok.all():
        return spans
    return msgspec.structs.replace(spans, **{name: getattr(spans, name)[ok] for name in _PER_SPAN})


def _batch(spans: SpanColumns, at: KafkaPosition, limits: TimeLimits) -> SpanBatch:
    resources = spans.resources
    services = JoinedNames.of([[(r.env, r.qualified_service) for r in resources]])
    hosts = JoinedNames.of([[r.host for r in resources]])
    infos = JoinedNames.of([[(r.version, r.image, r.container, r.site_id) for r in resources]])
    operations = JoinedNames.of([_short(spans.names)])
    end_ms = (spans.end_ns // _NS_PER_MS).astype(np.int64)
    late = end_ms < limits.late_before(at.timestamp_ms)
    codes = (end_ms // limits.window_ms * 2 + late) * len(services.names) + services.indices[spans.resource]
    keys, group = numbered(codes)
    found = np.empty(len(codes), SPAN_DTYPE)
    found["group"] = group
    found["host"] = hosts.indices[spans.resource]
    found["operation"] = operations.indices[spans.name]
    duration_ns, trace = (spans.end_ns - spans.start_ns).astype(np.int64), _words(spans.trace_id)
    found["bin"] = bins_of(duration_ns)
    found["kind"] = spans.kind
    found["error"] = spans.error

    info = infos.indices[spans.resource]
    newest = np.zeros(len(keys), np.int64)
    np.maximum.at(newest, group, end_ms * len(infos.names) + info)
    groups = np.zeros(len(keys), GROUP_DTYPE)
    windows, groups["service"] = np.divmod(keys, len(services.names))
    groups["start_ms"], groups["late"] = windows // 2 * limits.window_ms, windows % 2
    groups["newest_ms"], groups["info"] = np.divmod(newest, len(infos.names))
    groups["count"] = np.bincount(group, minlength=len(keys))
    exemplars = _exemplars(found, duration_ns, trace, len(groups))
    sides = _call_sides(spans, found, groups, duration_ns, trace)
    sides["sent_ms"] = at.timestamp_ms
    resource, sources = _sources(spans, group, groups)
    for name, indices in (("service", services.indices), ("host", hosts.indices), ("info", infos.indices)):
        sources[name] = indices[resource]
    if len(set(zip(services.indices.tolist(), infos.indices.tolist(), strict=True))) > len(services.names):
        alone = groups[group]  # the group of each span, as if it had no other
        alone["newest_ms"], alone["info"], alone["count"] = end_ms, info, 0
        groups = np.concatenate([groups, _attribute_rows(alone, group, infos.names)])
    return SpanBatch(
        at=at.range,
        services=tuple(services.names),
        hosts=tuple(hosts.names),
        operations=tuple(operations.names),
        infos=tuple(infos.names),
        spans=found.tobytes(),
        groups=groups.tobytes(),
        exemplars=exemplars.tobytes(),
        sides=sides.tobytes(),
        sources=sources.tobytes(),
    )


def _sources(spans: SpanColumns, group: NDArray[np.int32], groups: _Records) -> tuple[_Ints, _Records]:
    """Return a row for each resource with a version or an image and each window in which it has spans in time.

    The index of the resource of each row, and the rows without their names. Spans of a resource follow each other, so a
    span costs a comparison with the one before.
    """
    released = np.array([bool(r.version or r.image) for r in spans.resources], np.bool_)
    if not released.any():
        return np.zeros(0, np.int64), np.zeros(0, SOURCE_DTYPE)
    pairs, _ = numbered(spans.resource.astype(np.int64) * len(groups) + group)
    resource, of_group = np.divmod(pairs, len(groups))
    in_time = released[resource] & (groups["late"][of_group] == 0)
    rows = np.empty(np.count_nonzero(in_time), SOURCE_DTYPE)
    rows["start_ms"] = groups["start_ms"][of_group[in_time]]
    return resource[in_time], rows


def _attribute_rows(alone: _Records, group: NDArray[np.int32], infos: Sequence[tuple[str, ...]]) -> _Records:
    """Return group rows without spans that repeat, for each attribute of `infos`, the newest span that has it.

    alone: the row of each span. Seldom needed: the resources of a service are mostly equal.
    """
    last = []
    for attribute in zip(*infos, strict=True):
        rank_of, _ = ranked(attribute)
        rank = rank_of[alone["info"]]
        order = np.lexsort((rank, alone["newest_ms"], group))
        order = order[rank[order] > 0]
        last.append(order[np.flatnonzero(np.diff(group[order], append=-1))])
    rows: _Records = np.unique(alone[np.concatenate(last)])
    return rows


def _exemplars(found: _Records, duration_ns: _Ints, trace: _Words, groups: int) -> _Records:
    """Return the slowest, the sampled and the failing entry spans of each group; only spans with a trace id."""
    entry = np.flatnonzero(np.isin(found["kind"], list(ENTRY_KINDS)) & trace.any(axis=1))
    candidates = np.empty(len(entry), EXEMPLAR_DTYPE)
    candidates["duration_ns"] = duration_ns[entry]
    candidates["high"], candidates["low"] = trace[entry].T
    for field in ("group", "host", "operation"):
        candidates[field] = found[field][entry]
    return exemplars_of(candidates, (3 + 4 * found["error"][entry]).astype(np.uint8), groups)


def _call_sides(spans: SpanColumns, found: _Records, groups: _Records, duration_ns: _Ints, trace: _Words) -> _Records:
    """Return the call sides: client spans, and server spans with a parent, that have a trace id and a span id."""
    span, parent = _words(spans.span_id)[:, 0], _words(spans.parent_span_id)[:, 0]
    is_server = found["kind"] == KIND_SERVER
    is_side = ((found["kind"] == KIND_CLIENT) | (is_server & (parent != 0))) & (span != 0) & trace.any(axis=1)
    place = np.flatnonzero(is_side)
    side = found["group"][place].astype(np.int64) * 2 + is_server[place]
    call = np.where(is_server[place], parent[place], span[place])
    rank = trace_hash(trace_hash(trace[place, 0], trace[place, 1]), call)
    place = place[smallest_of(rank, side, 2 * len(groups), CALL_SIDES_MAX)]
    sides = np.zeros(len(place), CALL_SIDE_DTYPE)
    sides["high"], sides["low"] = trace[place].T
    sides["span"] = span[place]
    sides["parent"] = np.where(is_server[place], parent[place], 0)
    sides["end_ns"] = spans.end_ns[place]
    sides["duration_ns"] = duration_ns[place]
    sides["service"] = groups["service"][found["group"][place]]
    for field in ("host", "operation", "error"):
        sides[field] = found[field][place]
    return sides


def _words(ids: NDArray[np.uint8]) -> _Words:
    """Return ids as big-endian words: two of a trace id, one of a span id."""
    return np.ascontiguousarray(ids).view(">u8").astype(np.uint64)


def _short(names: tuple[str, ...]) -> list[str]:
    if max(map(len, names), default=0) <= NAME_CHARS_MAX:
        return list(names)
    return [short_name(name) for name in names]


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
