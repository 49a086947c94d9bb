"""Fold the spans of one Kafka message into a few partials; what cannot be counted becomes Rejected with its number.

An event's time is the *end* of its span, so that slow spans are not the late ones.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from state_schemas.partials import (
    DIMENSION_HOST,
    DIMENSION_OPERATION,
    DIMENSION_SERVICE,
    Exemplar,
    OffsetRange,
    RowKey,
    ServiceFacts,
    SpanBlock,
    SpanPartial,
)
from state_schemas.telemetry import KIND_CONSUMER, KIND_SERVER, Rejected, RejectReason, Resource, SpanColumns
from udfs.partials import SAMPLED_MAX, SLOWEST_MAX, merge_sampled, merge_slowest
from udfs.sketch import BIN_BITS, bins_of

ENTRY_KINDS = frozenset((KIND_SERVER, KIND_CONSUMER))  # what a service answers: its latency is these spans' duration
T = TypeVar("T", str, tuple[str, str])
_KINDS = 6
_TIES = 8  # spans of one trace with equal durations, told apart by host and operation


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
    cut = _Cut(spans, chosen, at, limits)
    partials = tuple(cut.partial(index) for index in range(len(cut.services)))
    return FoldResult(partials, rejected, len(chosen), int(cut.late.sum()))


def _judge(spans: SpanColumns, at: KafkaPosition, limits: TimeLimits) -> tuple[NDArray[np.bool_], tuple[Rejected, ...]]:
    """Which spans count, and the counted reasons of the rest; the first reason that fits is given."""
    ns = 1_000_000
    end, start = spans.end_ns, spans.start_ns
    newest = np.uint64((at.timestamp_ms + limits.future_max_ms) * ns)
    oldest = np.uint64(max(0, at.timestamp_ms - limits.age_max_ms) * ns)
    checks: tuple[tuple[RejectReason, NDArray[np.bool_], str], ...] = (
        ("no_time", end == 0, "end_time_unix_nano is 0, expected epoch nanoseconds; mend the producer"),
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


class _Cut:
    """One message's accepted spans, grouped. Lives for one call."""

    def __init__(self, spans: SpanColumns, chosen: NDArray[np.int64], at: KafkaPosition, limits: TimeLimits) -> None:
        self.spans = spans
        self.at = at
        end_ns = spans.end_ns[chosen].astype(np.int64)
        self.duration = end_ns - spans.start_ns[chosen].astype(np.int64)
        end_ms = end_ns // 1_000_000
        self.end_ms = end_ms
        self.pane = end_ms - end_ms % limits.pane_ms
        self.late = end_ms < at.timestamp_ms - limits.lateness_ms
        self.kind = spans.kind[chosen].astype(np.int64)
        self.error = spans.error[chosen]
        self.resource = spans.resource[chosen].astype(np.int64)
        self.name = spans.name[chosen].astype(np.int64)
        self.trace_id = spans.trace_id[chosen]
        self.bin = bins_of(self.duration)
        service_of, self.services = _index([(r.env, r.service) for r in spans.resources])
        host_of, self.hosts = _index([r.host for r in spans.resources])
        self.service = service_of[self.resource]
        self.host = host_of[self.resource]
        used, self.service = np.unique(self.service, return_inverse=True)
        self.services = [self.services[int(index)] for index in used]
        # Spans of one service, pane and lateness lie together; each group becomes one block.
        self.pane_values, pane_index = np.unique(self.pane, return_inverse=True)
        group = (self.service * len(self.pane_values) + pane_index) * 2 + self.late
        self.order = np.argsort(group, kind="stable")
        self.groups, self.starts = np.unique(group[self.order], return_index=True)
        self.ends = np.append(self.starts[1:], len(group))

    def partial(self, service: int) -> SpanPartial:
        env, name = self.services[service]
        first, last = np.searchsorted(
            self.groups, [service * 2 * len(self.pane_values), (service + 1) * 2 * len(self.pane_values)]
        )
        panes = []
        for index in range(int(first), int(last)):
            pane, late = divmod(int(self.groups[index]) % (2 * len(self.pane_values)), 2)
            members = self.order[self.starts[index] : self.ends[index]]
            panes.append((int(self.pane_values[pane]), bool(late), self._block(members)))
        return SpanPartial(env, name, tuple(panes))

    def _facts(self, members: NDArray[np.int64]) -> ServiceFacts:
        used, inverse = np.unique(self.resource[members], return_inverse=True)
        newest = np.zeros(len(used), np.int64)
        np.maximum.at(newest, inverse, self.end_ms[members])
        return max(
            _facts_of(self.spans.resources[int(index)], int(at_ms)) for index, at_ms in zip(used, newest, strict=True)
        )

    def _block(self, members: NDArray[np.int64]) -> SpanBlock:
        kind, bins, error = self.kind[members], self.bin[members], self.error[members]
        keys: list[RowKey] = []
        codes, counts, errors = [], [], []
        names = self.spans.names
        dimensions = (
            (DIMENSION_SERVICE, np.zeros(len(members), np.int64), ("",)),
            (DIMENSION_HOST, self.host[members], self.hosts),
            (DIMENSION_OPERATION, self.name[members], names),
        )
        for dimension, name, table in dimensions:
            rows, inverse = np.unique(name * _KINDS + kind, return_inverse=True)
            cells, cell_counts = np.unique((inverse << BIN_BITS) | bins, return_counts=True)
            codes.append(cells + (len(keys) << BIN_BITS))
            counts.append(cell_counts)
            errors.append(np.bincount(inverse, weights=error, minlength=len(rows)))
            keys += [(int(row) % _KINDS, dimension, table[int(row) // _KINDS]) for row in rows]
        return _ascending(
            keys,
            np.concatenate(codes),
            np.concatenate(counts),
            np.concatenate(errors).astype(np.int64),
            self._facts(members),
            self._evidence(members, kind),
            OffsetRange(self.at.topic, self.at.partition, self.at.offset, self.at.offset),
        )

    def _evidence(self, members: NDArray[np.int64], kind: NDArray[np.int64]) -> "_Evidence":
        entry = members[(kind == KIND_SERVER) | (kind == KIND_CONSUMER)]
        entry = entry[self.trace_id[entry].any(axis=1)]
        if not len(entry):
            return _Evidence((), ())
        words = np.ascontiguousarray(self.trace_id[entry]).view(">u8")
        longest = np.lexsort((words[:, 1], words[:, 0], -self.duration[entry]))[: SLOWEST_MAX + _TIES]
        by_id = np.lexsort((-self.duration[entry], words[:, 1], words[:, 0]))
        distinct = np.ones(len(by_id), np.bool_)
        distinct[1:] = (words[by_id][1:] != words[by_id][:-1]).any(axis=1)
        smallest = by_id[np.cumsum(distinct) <= SAMPLED_MAX]
        return _Evidence(
            merge_slowest(self._exemplar(int(i)) for i in entry[longest]),
            merge_sampled(self._exemplar(int(i)) for i in entry[smallest]),
        )

    def _exemplar(self, index: int) -> Exemplar:
        return Exemplar(
            int(self.duration[index]),
            self.trace_id[index].tobytes().hex(),
            self.hosts[int(self.host[index])],
            self.spans.names[int(self.name[index])],
        )


class _Evidence(NamedTuple):
    slowest: tuple[Exemplar, ...]
    sampled: tuple[Exemplar, ...]


def _index(values: list[T]) -> tuple[NDArray[np.int64], list[T]]:
    """For each value its place among the distinct ones, which are returned ascending."""
    distinct = sorted(set(values))
    place = {value: index for index, value in enumerate(distinct)}
    return np.array([place[value] for value in values], dtype=np.int64), distinct


def _facts_of(resource: Resource, at_ms: int) -> ServiceFacts:
    return ServiceFacts(at_ms, resource.version, resource.image, resource.container, resource.site_id)


def _ascending(
    keys: list[RowKey],
    codes: NDArray[np.int64],
    counts: NDArray[np.int64],
    errors: NDArray[np.int64],
    facts: ServiceFacts,
    evidence: _Evidence,
    offsets: OffsetRange,
) -> SpanBlock:
    """Rows put into key order, as a block promises."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    place = np.empty(len(keys), np.int64)
    place[order] = np.arange(len(keys))
    moved = (place[codes >> BIN_BITS] << BIN_BITS) | (codes & ((1 << BIN_BITS) - 1))
    by_code = np.argsort(moved)
    return SpanBlock(
        keys=tuple(keys[index] for index in order),
        errors=errors[order].astype("<i8").tobytes(),
        bins=moved[by_code].astype("<u4").tobytes(),
        counts=counts[by_code].astype("<i8").tobytes(),
        facts=facts,
        slowest=evidence.slowest,
        sampled=evidence.sampled,
        ranges=(offsets,),
    )
