"""Calls between services: call sides from different messages are paired, and pairs become rows of the caller.

A call is a client span and the server span whose parent it is. Only durations are subtracted, each measured by one
clock: network time is the client's duration less the server's, so it contains no clock skew. The clock skew is the
distance between the middles of the two spans, under the assumption that the request took as long on the network as the
response (Mills, RFC 5905, section 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.calls import NAMED_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import CALL_DIMENSIONS, DIMENSION_AHEAD, Exemplar, RowKey, SpanAggregate, SpanTable
from state_schemas.telemetry.spans import KIND_CLIENT
from udfs.event_time import LATENESS_MS, WINDOW_MS
from udfs.spans.window import BIN_MASK, merge_calls, pack_counts, sum_by_code
from udfs.stats.duration_histogram import BIN_BITS, bins_of

BUCKETS: Final = 8  # of trace hashes: number of keys over which the pairing of one environment is spread in a cluster
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_AGAIN: Final = np.uint64(0xBF58476D1CE4E5B9)  # finalizer of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014)
_Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]
_Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class PairLimits:
    """Limits of the pairing of calls."""

    # Two call sides are paired only if the Kafka timestamps of their messages differ by at most this.
    pair_ms: int = 30_000
    # Allowed lateness and length of the windows of detection.
    lateness_ms: int = LATENESS_MS
    window_ms: int = WINDOW_MS


class NamedSides(NamedTuple):
    """Call sides of one environment, and the names to which they refer by index, each list ascending and distinct."""

    sides: _Records
    services: list[str]
    hosts: list[str]
    operations: list[str]


def trace_hash(high: _Words, low: _Words) -> _Words:
    """Return 64 uniformly distributed bits for each trace id, however its producer makes ids. O(n)."""
    mixed = (low ^ (high * _MIX)) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_AGAIN
    hashed: _Words = mixed ^ (mixed >> np.uint64(31))
    return hashed


def named(env: str, bucket: int, sides: _Records, pools: tuple[Sequence[str], ...]) -> CallSides:
    """Return the call sides with only the names they use. pools: services, hosts, operations, each ascending."""
    kept = sides.copy()
    names = []
    for field, pool in zip(("service", "host", "operation"), pools, strict=True):
        used, kept[field] = np.unique(sides[field], return_inverse=True)
        names.append(tuple(pool[index] for index in used.tolist()))
    services, hosts, operations = names
    return CallSides(env, bucket, services, hosts, operations, kept.tobytes())


def thinned(event: CallSides, sampling_log2: int) -> CallSides:
    """Return the call sides of one in 2**sampling_log2 traces: the same traces in every event."""
    if not sampling_log2:
        return event
    sides = np.frombuffer(event.sides, NAMED_SIDE_DTYPE)
    kept = sides[trace_hash(sides["high"], sides["low"]) >> np.uint64(64 - sampling_log2) == 0]
    return named(event.env, event.bucket, kept, (event.services, event.hosts, event.operations))


def united(parts: Sequence[CallSides]) -> NamedSides:
    """Return the call sides of all parts, each span once: of equal ids the one already paired, else the first."""
    sides = np.concatenate([np.frombuffer(part.sides, NAMED_SIDE_DTYPE) for part in parts])
    part_of = np.repeat(np.arange(len(parts)), [len(part.sides) // NAMED_SIDE_DTYPE.itemsize for part in parts])
    pools = []
    for field in ("services", "hosts", "operations"):
        columns = [getattr(part, field) for part in parts]
        pool = sorted({name for column in columns for name in column})
        index_of = {name: index for index, name in enumerate(pool)}
        indices = np.array([index_of[name] for column in columns for name in column], np.int64)
        first = np.cumsum([0, *(len(column) for column in columns[:-1])])
        sides[field[:-1]] = indices[sides[field[:-1]] + first[part_of]]
        pools.append(pool)
    is_server = sides["parent"] != 0
    order = np.lexsort((1 - sides["paired"], is_server, sides["span"], sides["low"], sides["high"]))
    sides, is_server = sides[order], is_server[order]
    again = np.zeros(len(sides), np.bool_)
    again[1:] = is_server[1:] == is_server[:-1]
    for field in ("span", "low", "high"):
        again[1:] &= sides[field][1:] == sides[field][:-1]
    return NamedSides(sides[~again], *pools)


def pair(sides: _Records, limits: PairLimits) -> tuple[_Ints, _Ints]:
    """Return the indices of (client, server) of each new call, and mark both as paired. O(n log n)."""
    is_server = sides["parent"] != 0
    clients, servers = np.flatnonzero(~is_server), np.flatnonzero(is_server & (sides["paired"] == 0))
    if not len(clients) or not len(servers):
        return clients[:0], servers[:0]
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
    return candidates[matches], servers[matches]


def call_aggregates(
    env: str, names: NamedSides, calls: tuple[_Ints, _Ints], limits: PairLimits
) -> tuple[SpanAggregate, ...]:
    """Return the calls as aggregates of their callers, ascending; a call counts where its client span ends."""
    client, server = names.sides[calls[0]], names.sides[calls[1]]
    if not len(client):
        return ()
    end_ms = client["end_ns"] // 1_000_000
    late = end_ms < np.maximum(client["sent_ms"], server["sent_ms"]) - limits.lateness_ms
    late |= server["end_ns"] // 1_000_000 < server["sent_ms"] - limits.lateness_ms
    windows = (end_ms // limits.window_ms) * 2 + late
    group_codes, first, group = np.unique(
        np.stack((client["service"].astype(np.int64), windows)), axis=1, return_index=True, return_inverse=True
    )
    tables = _tables(names, (client, server), group.reshape(-1), len(first))
    by_caller: dict[int, list[tuple[int, bool, SpanTable]]] = {}
    for (caller, window), table in zip(group_codes.T.tolist(), tables, strict=True):
        by_caller.setdefault(caller, []).append((window // 2 * limits.window_ms, bool(window % 2), table))
    return tuple(SpanAggregate(env, names.services[caller], tuple(windows)) for caller, windows in by_caller.items())


def _tables(names: NamedSides, calls: tuple[_Records, _Records], group: _Ints, groups: int) -> list[SpanTable]:
    """Return the table of each group of calls, with a row for each callee in each of CALL_DIMENSIONS."""
    client, server = calls
    width, dimensions = len(names.services), len(CALL_DIMENSIONS)
    skew_ns = (server["end_ns"] - server["duration_ns"] // 2) - (client["end_ns"] - client["duration_ns"] // 2)
    side = np.where(skew_ns >= 0, DIMENSION_AHEAD, DIMENSION_AHEAD + 1) - CALL_DIMENSIONS[0]
    values = (
        (0, client["duration_ns"], client["error"]),
        (1, client["duration_ns"] - server["duration_ns"], 0),
        (side, np.abs(skew_ns), 0),
    )
    row_codes = [(group * dimensions + dimension) * width + server["service"] for dimension, _, _ in values]
    distinct, row = np.unique(np.concatenate(row_codes), return_inverse=True)
    errors = np.zeros(len(distinct), np.int64)
    np.add.at(errors, row, np.concatenate([np.broadcast_to(failed, len(group)) for _, _, failed in values]))
    bins = bins_of(np.concatenate([duration_ns for _, duration_ns, _ in values]))
    cells, counts = sum_by_code((row << BIN_BITS) | bins, np.ones(len(row), np.int64))
    first_row = np.searchsorted(distinct, np.arange(groups + 1) * dimensions * width)
    first_cell = np.searchsorted(cells >> BIN_BITS, first_row)
    sizes = np.bincount(cells >> BIN_BITS, minlength=len(distinct)).astype("<u2")
    slowest = _longest(names, calls, client["duration_ns"], group, groups)
    widest = _longest(names, calls, client["duration_ns"] - server["duration_ns"], group, groups)
    return [
        SpanTable(
            keys=tuple(_key(code, width, names.services) for code in distinct[start:end].tolist()),
            errors=pack_counts(errors[start:end]),
            sizes=sizes[start:end].tobytes(),
            bins=(cells[cell:next_cell] & BIN_MASK).astype("<u2").tobytes(),
            counts=pack_counts(counts[cell:next_cell]),
            calls=slowest[index],
            network_times=widest[index],
        )
        for index, ((start, end), (cell, next_cell)) in enumerate(
            zip(pairwise(first_row.tolist()), pairwise(first_cell.tolist()), strict=True)
        )
    ]


def _key(code: int, width: int, services: Sequence[str]) -> RowKey:
    return KIND_CLIENT, CALL_DIMENSIONS[code // width % len(CALL_DIMENSIONS)], services[code % width]


def _longest(
    names: NamedSides, calls: tuple[_Records, _Records], durations_ns: _Ints, group: _Ints, groups: int
) -> list[tuple[tuple[str, Exemplar], ...]]:
    """Return the longest call to each callee, for each group."""
    client, server = calls
    traces = client[["high", "low"]].astype([("high", ">u8"), ("low", ">u8")]).tobytes().hex()
    by_group: list[list[tuple[str, Exemplar]]] = [[] for _ in range(groups)]
    origins = client[["host", "operation"]].tolist()
    fields = zip(group.tolist(), server["service"].tolist(), durations_ns.tolist(), origins, strict=True)
    for index, (number, callee, duration_ns, (host, operation)) in enumerate(fields):
        trace_id = traces[32 * index : 32 * index + 32]
        exemplar = Exemplar(duration_ns, trace_id, names.hosts[host], names.operations[operation])
        by_group[number].append((names.services[callee], exemplar))
    return [merge_calls(calls_of_group) for calls_of_group in by_group]
