"""Merge of batches of spans into one aggregate for each service: tables with a sketch for each host and operation.

The result depends only on the *set* of spans in the batches, as that of every merge does (`udfs.spans.window`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.activity import Activity, ActivityWindow
from state_schemas.aggregates.calls import CALL_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import (
    EXEMPLAR_DTYPE,
    GROUP_DTYPE,
    SPAN_DIMENSIONS,
    SPAN_DTYPE,
    Exemplar,
    PackedSketches,
    Series,
    SpanAggregate,
    SpanBatch,
    SpanTable,
)
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import SPAN_KINDS
from udfs.activity import merge_activity, merge_ranges
from udfs.service_info import newest_info
from udfs.spans.calls import BUCKETS, NamedSides, trace_hash
from udfs.spans.joined import JoinedNames, joined_records, trace_ids
from udfs.spans.kernels import exemplars_of, numbered
from udfs.spans.sketches import Sketches
from udfs.spans.window import NameLimits, merge_span_tables
from udfs.stats.duration_histogram import BIN_BITS

_Ints = NDArray[np.int64]
_Records = NDArray[np.void]
_KINDS: Final = len(SPAN_KINDS)
_DIMENSIONS: Final = len(SPAN_DIMENSIONS)


class Columns(NamedTuple):
    """All batches as arrays with indices into common names and windows."""

    batches: Sequence[SpanBatch]
    # Names of all batches, ascending.
    services: list[tuple[str, str]]
    hosts: list[str]
    operations: list[str]
    infos: list[tuple[str, str, str, str]]
    # Of `GROUP_DTYPE`: one group of each service and window, late ones apart; ascending by (service, start, late).
    windows: _Records
    # Index of the window of each of `groups`.
    window_of: _Ints
    # Of the batches, batch after batch; the group of spans and exemplars is the index of the window.
    groups: _Records
    spans: _Records
    exemplars: _Records
    sides: _Records

    def aggregates(self, limits: NameLimits) -> tuple[SpanAggregate, ...]:
        """Return one aggregate for each (env, service), ascending.

        O(spans + cells log cells), vectorised over all services.
        """
        places = self.windows[["service", "start_ms", "late"]].tolist()
        windows = [
            (self.services[service], (start_ms, bool(late), merge_span_tables([table], limits)))
            for (service, start_ms, late), table in zip(places, self._tables(), strict=True)
        ]
        return tuple(
            SpanAggregate(env, service, tuple(window for _, window in members))
            for (env, service), members in groupby(windows, key=lambda member: member[0])
        )

    def call_sides(self) -> tuple[CallSides, ...]:
        """Return the call sides of each environment and bucket of traces, in that order."""
        sides = self.sides
        names = NamedSides(sides, [name for _, name in self.services], self.hosts, self.operations)
        envs = sorted({env for env, _ in self.services})
        env_of = np.array([envs.index(env) for env, _ in self.services], np.int64)
        bucket = trace_hash(sides["high"], sides["low"]) & np.uint64(BUCKETS - 1)
        code = env_of[sides["service"]] * BUCKETS + bucket.astype(np.int64)
        return tuple(
            names._replace(sides=sides[code == key]).packed(envs[key // BUCKETS], key % BUCKETS)
            for key in np.unique(code).tolist()
        )

    def _tables(self) -> Iterator[SpanTable]:
        """Yield the table of each window."""
        exemplars = self._exemplars()
        fields = zip(self._sketches(), self._newest_info(), exemplars, self._ranges(), strict=True)
        for packed, info, (slowest, sampled, failing), ranges in fields:
            yield SpanTable(
                packed, info, slowest=tuple(slowest), sampled=tuple(sampled), failing=tuple(failing), ranges=ranges
            )

    def _sketches(self) -> Iterator[PackedSketches]:
        """Yield the rows of each window."""
        # Codes have the order of keys: window, kind, dimension, then the index of the name, as names are ascending.
        spans = self.spans
        width = max(1, len(self.hosts), len(self.operations))
        in_kind = (spans["group"].astype(np.int64) * _KINDS + spans["kind"]) * _DIMENSIONS
        indices = zip(SPAN_DIMENSIONS, (0, spans["host"], spans["operation"]), strict=True)
        codes = np.concatenate([(in_kind + dimension) * width + index for dimension, index in indices])
        values, number = numbered(codes)
        order = np.argsort(values)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        values, row = values[order], rank[number]
        errors = np.bincount(row, weights=np.tile(spans["error"], _DIMENSIONS), minlength=len(values)).astype(np.int64)
        cells = np.sort((row << BIN_BITS) | np.tile(spans["bin"], _DIMENSIONS))
        starts = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
        names = ([""], self.hosts, self.operations)
        kinds, dimensions = (
            (values // (width * _DIMENSIONS) % _KINDS).tolist(),
            (values // width % _DIMENSIONS).tolist(),
        )
        keys = [
            Series(kind, SPAN_DIMENSIONS[dimension], names[dimension][index])
            for kind, dimension, index in zip(kinds, dimensions, (values % width).tolist(), strict=True)
        ]
        rows = Sketches(keys, errors, cells[starts], np.diff(starts, append=len(cells)))
        first_row = np.searchsorted(values, np.arange(len(self.windows) + 1) * (_KINDS * _DIMENSIONS * width))
        return rows.pack_groups(first_row.tolist())

    def _newest_info(self) -> list[ServiceInfo]:
        """Return the attributes of each window."""
        groups = self.groups
        return newest_info(
            len(self.windows), self.window_of, groups["newest_ms"], groups["info"].astype(np.int64), self.infos
        )

    def _ranges(self) -> list[tuple[OffsetRange, ...]]:
        found: list[list[OffsetRange]] = [[] for _ in self.windows]
        indices = iter(self.window_of.tolist())
        for batch in self.batches:
            for _ in range(len(batch.groups) // GROUP_DTYPE.itemsize):
                found[next(indices)].append(batch.at)
        return [merge_ranges(ranges) for ranges in found]

    def _exemplars(self) -> list[tuple[list[Exemplar], list[Exemplar], list[Exemplar]]]:
        """Return the slowest, the sampled and the failing exemplars of each window."""
        roles = (1 << self.exemplars["role"]).astype(np.uint8)
        kept = exemplars_of(self.exemplars, roles, len(self.windows))
        found: list[tuple[list[Exemplar], list[Exemplar], list[Exemplar]]] = [([], [], []) for _ in self.windows]
        fields = kept[["role", "group", "duration_ns", "host", "operation"]].tolist()
        for (role, window, duration_ns, host, operation), trace_id in zip(fields, trace_ids(kept), strict=True):
            exemplar = Exemplar(duration_ns, trace_id, self.hosts[host], self.operations[operation])
            found[window][role].append(exemplar)
        return found


def activity_of(batches: Iterable[SpanBatch]) -> dict[str, tuple[ActivityWindow, ...]]:
    """Return the activity in traces by environment; late spans do not count."""
    windows: dict[str, list[ActivityWindow]] = {}
    for batch in batches:
        seen: dict[tuple[str, int], list[Activity]] = {}
        groups = np.frombuffer(batch.groups, GROUP_DTYPE)
        groups = groups[groups["late"] == 0]
        for service, start_ms, count in groups[["service", "start_ms", "count"]].tolist():
            env, name = batch.services[service]
            seen.setdefault((env, start_ms), []).append(Activity("traces", name, count))
        for (env, start_ms), active in seen.items():
            windows.setdefault(env, []).append(ActivityWindow(start_ms, tuple(active), (batch.at,)))
    return {env: merge_activity(of_env) for env, of_env in sorted(windows.items())}


def common(batches: Sequence[SpanBatch]) -> Columns:
    """Return batches (at least one) as concatenated arrays with common names."""
    services = JoinedNames.of([batch.services for batch in batches])
    hosts = JoinedNames.of([batch.hosts for batch in batches])
    operations = JoinedNames.of([batch.operations for batch in batches])
    infos = JoinedNames.of([batch.infos for batch in batches])
    groups, batch_of = joined_records([batch.groups for batch in batches], GROUP_DTYPE)
    first_group = np.searchsorted(batch_of, np.arange(len(batches)))
    groups["service"] = services.at(batch_of, groups["service"])
    groups["info"] = infos.at(batch_of, groups["info"])
    windows, window_of = _distinct(groups)
    spans, batch_of_span = joined_records([batch.spans for batch in batches], SPAN_DTYPE)
    exemplars, batch_of_exemplar = joined_records([batch.exemplars for batch in batches], EXEMPLAR_DTYPE)
    sides, batch_of_side = joined_records([batch.sides for batch in batches], CALL_SIDE_DTYPE)
    for records, of in ((spans, batch_of_span), (exemplars, batch_of_exemplar), (sides, batch_of_side)):
        records["host"] = hosts.at(of, records["host"])
        records["operation"] = operations.at(of, records["operation"])
    for records, of in ((spans, batch_of_span), (exemplars, batch_of_exemplar)):
        records["group"] = window_of[first_group[of] + records["group"]]
    sides["service"] = services.at(batch_of_side, sides["service"])
    return Columns(
        batches=batches,
        services=services.names,
        hosts=hosts.names,
        operations=operations.names,
        infos=infos.names,
        windows=windows,
        window_of=window_of,
        groups=groups,
        spans=spans,
        exemplars=exemplars,
        sides=sides,
    )


def _distinct(groups: _Records) -> tuple[_Records, _Ints]:
    """Return a group of each service and window, by (service, start, late), and the index of each group among them."""
    fields = [groups[name].astype(np.int64) for name in ("late", "start_ms", "service")]
    order = np.lexsort(fields)
    changed = np.ones(len(order), np.bool_)
    changed[1:] = np.any([field[order][1:] != field[order][:-1] for field in fields], axis=0)
    index = np.empty(len(order), np.int64)
    index[order] = np.cumsum(changed) - 1
    return groups[order[changed]], index
