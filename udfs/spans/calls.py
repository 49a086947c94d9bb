"""Calls between services: call sides from different messages are paired, and pairs become rows of the caller.

A call is a client span and the server span whose parent it is. Only durations are subtracted, each measured by one
clock: network time is the client's duration less the server's, so it contains no clock skew. The clock skew is the
distance between the middles of the two spans, under the assumption that the request took as long on the network as the
response (Mills, RFC 5905, section 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.calls import CALL_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import CALL_DIMENSIONS, Dimension, Exemplar, Series, SpanAggregate, SpanTable
from state_schemas.telemetry.spans import KIND_CLIENT
from udfs.event_time import LATENESS_MS, WINDOW_MS
from udfs.spans.joined import JoinedNames, joined_records, trace_ids
from udfs.spans.sketches import Sketches, sum_by_code
from udfs.spans.window import merge_calls
from udfs.stats.duration_histogram import BIN_BITS, bins_of

BUCKETS: Final = 8  # of trace hashes: number of keys over which the pairing of one environment is spread in a cluster
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_AGAIN: Final = np.uint64(0xBF58476D1CE4E5B9)  # finalizer of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014)
_Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]
_Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class PairLimits:
    """Settings of the pairing of calls."""

    # Two call sides are paired only if the Kafka timestamps of their messages differ by at most this.
    pair_ms: int = 30_000
    # Allowed lateness and length of the windows of detection.
    lateness_ms: int = LATENESS_MS
    window_ms: int = WINDOW_MS
    # Call sides kept in one bucket; when more than half as many wait to be paired, they are paired at once. Beyond the
    # limit, paired sides are dropped first, then every second trace until the rest fits. The default keeps 1,000
    # unpaired sides per second of an environment; below a fourth of the limit the sampling rate doubles again.
    sides_max: int = 4_096


class NamedSides(NamedTuple):
    """Call sides of one environment, and the names to which they refer by index, each list ascending and distinct."""

    sides: _Records
    services: Sequence[str]
    hosts: Sequence[str]
    operations: Sequence[str]

    def packed(self, env: str, bucket: int) -> CallSides:
        """Return the call sides with only the names they use."""
        kept = self.sides.copy()
        names = []
        for field, pool in (("service", self.services), ("host", self.hosts), ("operation", self.operations)):
            used, kept[field] = np.unique(kept[field], return_inverse=True)
            names.append(tuple(pool[index] for index in used.tolist()))
        services, hosts, operations = names
        return CallSides(env, bucket, services, hosts, operations, kept.tobytes())

    def paired(self, limits: PairLimits) -> "Calls":
        """Return the new calls, and mark both sides of each as paired. O(n log n)."""
        sides = self.sides
        is_server = sides["parent"] != 0
        clients, servers = np.flatnonzero(~is_server), np.flatnonzero(is_server & (sides["paired"] == 0))
        if not len(clients) or not len(servers):
            return Calls(self, sides[:0], sides[:0])
        trace = trace_hash(sides["high"], sides["low"])
        calls = trace_hash(trace[clients], sides["span"][clients])
        order = np.argsort(calls, kind="stable")
        clients, calls = clients[order], calls[order]
        wanted = trace_hash(trace[servers], sides["parent"][servers])
        candidates = clients[np.minimum(np.searchsorted(calls, wanted), len(clients) - 1)]
        matches = np.abs(sides["sent_ms"][candidates] - sides["sent_ms"][servers]) <= limits.pair_ms
        for of_client, of_server in (("high", "high"), ("low", "low"), ("span", "parent")):
            matches &= sides[of_client][candidates] == sides[of_server][servers]
        sides["paired"][servers[matches]] = 1
        sides["paired"][candidates[matches]] = 1
        return Calls(self, sides[candidates[matches]], sides[servers[matches]])


class Calls(NamedTuple):
    """Paired calls: client and server are the two sides of each."""

    names: NamedSides
    client: _Records
    server: _Records

    @property
    def network_ns(self) -> _Ints:
        """Network time of each call."""
        gap: _Ints = self.client["duration_ns"] - self.server["duration_ns"]
        return gap

    @property
    def skew_ns(self) -> _Ints:
        """Time by which the clock of the callee is ahead, in each call."""
        middles = (side["end_ns"] - side["duration_ns"] // 2 for side in (self.server, self.client))
        ahead: _Ints = np.subtract(*middles)
        return ahead

    def aggregates(self, env: str, limits: PairLimits) -> tuple[SpanAggregate, ...]:
        """Return the calls as aggregates of their callers, ascending; a call counts where its client span ends."""
        client, server = self.client, self.server
        if not len(client):
            return ()
        end_ms = client["end_ns"] // 1_000_000
        late = end_ms < np.maximum(client["sent_ms"], server["sent_ms"]) - limits.lateness_ms
        late |= server["end_ns"] // 1_000_000 < server["sent_ms"] - limits.lateness_ms
        windows = (end_ms // limits.window_ms) * 2 + late
        group_codes, group = np.unique(
            np.stack((client["service"].astype(np.int64), windows)), axis=1, return_inverse=True
        )
        by_caller: dict[int, list[tuple[int, bool, SpanTable]]] = {}
        for (caller, window), table in zip(group_codes.T.tolist(), self._tables(group.reshape(-1)), strict=True):
            by_caller.setdefault(caller, []).append((window // 2 * limits.window_ms, bool(window % 2), table))
        services = self.names.services
        return tuple(SpanAggregate(env, services[caller], tuple(windows)) for caller, windows in by_caller.items())

    def _tables(self, group: _Ints) -> list[SpanTable]:
        """Return the table of each group of calls, with a row for each callee in each of CALL_DIMENSIONS."""
        services = self.names.services
        width = len(services)
        skew_ns = self.skew_ns
        values = (
            (Dimension.CALLEE, self.client["duration_ns"], self.client["error"]),
            (Dimension.NETWORK_TIME, self.network_ns, 0),
            (np.where(skew_ns >= 0, Dimension.AHEAD, Dimension.BEHIND), np.abs(skew_ns), 0),
        )
        row_codes = [
            (group * len(CALL_DIMENSIONS) + dimension - CALL_DIMENSIONS[0]) * width + self.server["service"]
            for dimension, _, _ in values
        ]
        distinct, row = np.unique(np.concatenate(row_codes), return_inverse=True)
        errors = np.zeros(len(distinct), np.int64)
        np.add.at(errors, row, np.concatenate([np.broadcast_to(failed, len(group)) for _, _, failed in values]))
        bins = bins_of(np.concatenate([duration_ns for _, duration_ns, _ in values]))
        keys = [
            Series(KIND_CLIENT, CALL_DIMENSIONS[code // width % len(CALL_DIMENSIONS)], services[code % width])
            for code in distinct.tolist()
        ]
        rows = Sketches(keys, errors, *sum_by_code((row << BIN_BITS) | bins, np.ones(len(row), np.int64)))
        first_row = np.searchsorted(distinct, np.arange(group.max() + 2) * len(CALL_DIMENSIONS) * width).tolist()
        slowest, widest = (self._longest(ns, group) for ns in (self.client["duration_ns"], self.network_ns))
        return [
            SpanTable(packed, calls=slowest[index], network_times=widest[index])
            for index, packed in enumerate(rows.pack_groups(first_row))
        ]

    def _longest(self, durations_ns: _Ints, group: _Ints) -> list[tuple[tuple[str, Exemplar], ...]]:
        """Return the longest call to each callee, for each group."""
        names = self.names
        by_group: list[list[tuple[str, Exemplar]]] = [[] for _ in range(group.max() + 1)]
        places = zip(group.tolist(), self.server["service"].tolist(), strict=True)
        origins = self.client[["host", "operation"]].tolist()
        fields = zip(places, origins, durations_ns.tolist(), trace_ids(self.client), strict=True)
        for (number, callee), (host, operation), duration_ns, trace_id in fields:
            exemplar = Exemplar(duration_ns, trace_id, names.hosts[host], names.operations[operation])
            by_group[number].append((names.services[callee], exemplar))
        return [merge_calls(calls_of_group) for calls_of_group in by_group]


def trace_hash(high: _Words, low: _Words) -> _Words:
    """Return 64 uniformly distributed bits for each trace id, however its producer makes ids. O(n)."""
    mixed = (low ^ (high * _MIX)) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_AGAIN
    hashed: _Words = mixed ^ (mixed >> np.uint64(31))
    return hashed


def thinned(event: CallSides, sampling_log2: int) -> CallSides:
    """Return the call sides of one in 2**sampling_log2 traces: the same traces in every event."""
    if not sampling_log2:
        return event
    sides = np.frombuffer(event.sides, CALL_SIDE_DTYPE)
    kept = sides[trace_hash(sides["high"], sides["low"]) >> np.uint64(64 - sampling_log2) == 0]
    return NamedSides(kept, event.services, event.hosts, event.operations).packed(event.env, event.bucket)


def united(parts: Sequence[CallSides]) -> NamedSides:
    """Return the call sides of all parts, each span once: of equal ids the one already paired, else the first."""
    sides, part_of = joined_records([part.sides for part in parts], CALL_SIDE_DTYPE)
    services = JoinedNames.of([part.services for part in parts])
    hosts = JoinedNames.of([part.hosts for part in parts])
    operations = JoinedNames.of([part.operations for part in parts])
    for field, joined in (("service", services), ("host", hosts), ("operation", operations)):
        sides[field] = joined.at(part_of, sides[field])
    is_server = sides["parent"] != 0
    order = np.lexsort((1 - sides["paired"], is_server, sides["span"], sides["low"], sides["high"]))
    sides, is_server = sides[order], is_server[order]
    again = np.zeros(len(sides), np.bool_)
    again[1:] = is_server[1:] == is_server[:-1]
    for field in ("span", "low", "high"):
        again[1:] &= sides[field][1:] == sides[field][:-1]
    return NamedSides(sides[~again], services.names, hosts.names, operations.names)
