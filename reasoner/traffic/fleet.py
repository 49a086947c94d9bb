"""Normal traffic of a fleet, as windows for detection: with all usual variation and without anomalies.

A day curve, log-normal, bimodal and heavy-tailed latencies, deploys without effect, changing hosts, 1 to 100,000 spans
a window; calls to other services over networks with queues. A slow-down can be planted. Latencies are drawn as counts
of sketch bins: a window of 100,000 spans costs little more than one of 1,000.
"""

from dataclasses import dataclass, replace
from math import log, pi, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.spans import Dimension, Exemplar, Series, SpanTable
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import KIND_CLIENT, KIND_SERVER
from udfs.spans.sketches import BIN_MASK, Sketches, sum_by_code
from udfs.spans.window import NameLimits, entry_table, merge_span_tables
from udfs.stats.duration_histogram import BIN_BITS, BIN_OVER, EDGES_NS, REPRESENTATIVE_NS, bins_of

SERVICES: Final = 30
WINDOW_MS: Final = 10_000
DAY_MS: Final = 86_400_000
WARM_WINDOWS: Final = 720  # two hours before a planted anomaly
ANOMALY_WINDOWS: Final = 120
SPANS_MAX: Final = 100_000  # mean of a window of the busiest service; the smallest has 1
CALLS_MAX: Final = 40  # paired calls in a window: 4 of each message, one message per second
_BIN_LOG: Final = log(1.0195)
_DRAWS: Final = 40_000  # spans from which the distribution of an operation is computed
_DRAWN_ONE_BY_ONE: Final = 3_000  # spans of a window up to which each span is drawn; above it the count of each bin is
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A slow-down after WARM_WINDOWS, for ANOMALY_WINDOWS: latencies are `factor` times as long."""

    # Ratio to the usual latency.
    factor: float
    # Whether only one host is slow, not all.
    one_host: bool
    # Whether the factor rises over the first half of the time, instead of at once.
    gradual: bool

    def factor_at(self, window: int) -> float:
        """Return the factor in a window; 1 outside of the slow-down."""
        since = window - WARM_WINDOWS
        if not 0 <= since < ANOMALY_WINDOWS:
            return 1.0
        return self.factor ** min(1.0, 2 * since / ANOMALY_WINDOWS) if self.gradual else self.factor


@dataclass(frozen=True, slots=True)
class QuietCallee:
    """A callee with normal latencies."""

    name: str
    # Mean paired calls of a window.
    calls: float
    # Cumulative shares of the sketch bins of its answers.
    work: NDArray[np.float64]
    # Median network time there and back.
    way_ns: float
    # Sigma of the logarithm of the network time.
    way_sigma: float
    # Share of calls that wait in a queue.
    queued_share: float
    # Factor on the network time of calls that wait.
    queued: float


@dataclass(frozen=True, slots=True)
class QuietService:
    """A service with normal traffic."""

    name: str
    # Mean spans of a window.
    rate: float
    hosts: int
    # Cumulative shares of (operation, bin), one operation after the other.
    cumulative: NDArray[np.float64]
    error_share: float
    phase: float
    callees: tuple[QuietCallee, ...]
    slowdown: Slowdown | None = None


def fleet(seed: int) -> list[QuietService]:
    """Return SERVICES services with rates from 1 to SPANS_MAX spans a window. The same seed gives the same fleet."""
    random = np.random.default_rng((seed, 1))
    return [_service(random, number) for number in range(SERVICES)]


def _service(random: np.random.Generator, number: int) -> QuietService:
    operations = int(random.integers(2, 20))
    share = random.dirichlet(np.full(operations, 0.7))
    pmf = np.array([_latencies(random) for _ in range(operations)])
    return QuietService(
        name=f"service-{number:02d}",
        rate=SPANS_MAX ** (number / (SERVICES - 1)),
        hosts=int(random.integers(1, 12)),
        cumulative=np.cumsum(pmf * share[:, None]),
        error_share=float(random.choice((0.0, 0.001, 0.01, 0.03))),
        phase=float(random.uniform(0, 0.2)),
        callees=tuple(_callee(random, place) for place in range(int(random.integers(0, 4)))),
    )


def _callee(random: np.random.Generator, place: int) -> QuietCallee:
    return QuietCallee(
        name=f"callee-{place}",
        calls=CALLS_MAX ** float(random.uniform(0, 1)),
        work=np.cumsum(_latencies(random)),
        way_ns=float(10 ** random.uniform(5.5, 6.8)),  # 0.3 to 6 ms
        way_sigma=float(random.uniform(0.2, 0.8)),
        queued_share=float(random.choice((0.0, 0.01, 0.05, 0.1))),
        queued=float(random.uniform(3, 50)),
    )


def _latencies(random: np.random.Generator) -> NDArray[np.float64]:
    """Return shares of the bins: log-normal; three of ten operations have a slow second mode, two a heavy tail."""
    median_ns = 10 ** random.uniform(6.3, 8.7)  # 2 to 500 ms
    values = median_ns * np.exp(random.uniform(0.15, 0.8) * random.standard_normal(_DRAWS))
    effect = random.random()
    if effect < 0.3:
        slow = random.random(_DRAWS) < random.uniform(0.02, 0.2)
        values[slow] *= random.uniform(4, 20)
    elif effect < 0.5:
        tail = random.random(_DRAWS) < 0.02
        values[tail] *= 1 + random.pareto(1.3, int(tail.sum()))
    found = np.bincount(bins_of(np.minimum(values, 3.5e12).astype(np.int64)), minlength=BIN_OVER + 1)
    shares: NDArray[np.float64] = found / found.sum()
    return shares


class Traffic:
    """The windows of one service, in order.

    Two deploys a day replace version and hosts; one host is replaced each hour.
    """

    def __init__(self, service: QuietService, seed: int) -> None:
        self._service = service
        self._random = np.random.default_rng((seed, 2, int(service.name[-2:])))
        self._names = [f"{service.name}-a{index}" for index in range(service.hosts)]
        self._version = 1
        self._born = service.hosts

    def window(self, number: int, start_ms: int) -> SpanTable | None:
        """Return the entry spans of window `number`, which starts at start_ms; None if there are none."""
        service, random = self._service, self._random
        self._renew(number)
        wave = sin(2 * pi * (start_ms % DAY_MS / DAY_MS + service.phase))
        spans = random.poisson(service.rate * (1 + 0.6 * wave) * random.gamma(20, 1 / 20), None)
        if not spans:
            return None
        # Load moves latencies a little: with the day, and from window to window for the whole service.
        usual = (1 + 0.15 * wave) * float(np.exp(0.05 * random.standard_normal()))
        counts, hosts = self._drawn(int(spans), usual, number)
        tables = [self._table(counts, hosts, start_ms, number)]
        tables += [called for callee in service.callees if (called := self._calls(callee, number)) is not None]
        return entry_table(merge_span_tables(tables, NameLimits()))

    def _renew(self, number: int) -> None:
        if number % 4_320 == 1_800:
            self._version += 1
            self._names = [self._born_host() for _ in self._names]
        elif number % 360 == 180 and len(self._names) > 2:
            self._names[int(self._random.integers(len(self._names)))] = self._born_host()

    def _born_host(self) -> str:
        self._born += 1
        return f"{self._service.name}-a{self._born}"

    def _drawn(self, spans: int, usual: float, number: int) -> tuple[_Ints, _Ints]:
        """Return cells (operation and host above the bin) as codes, possibly repeated, and the spans of each."""
        service, random = self._service, self._random
        if spans < _DRAWN_ONE_BY_ONE:
            kind = np.searchsorted(service.cumulative, random.random(spans) * service.cumulative[-1])
            host, counts = random.integers(service.hosts, size=spans), np.ones(spans, np.int64)
        else:
            found = random.multinomial(spans, np.diff(service.cumulative, prepend=0.0) / service.cumulative[-1])
            present = np.flatnonzero(found)
            split = random.multinomial(found[present], np.full(service.hosts, 1 / service.hosts))
            place, host = np.nonzero(split)
            kind, counts = present[place], split[place, host]
        operation, bins = np.divmod(kind, BIN_OVER + 1)
        shift = np.full(service.hosts, round(log(usual) / _BIN_LOG))
        if service.slowdown is not None:
            slower = round(log(usual * service.slowdown.factor_at(number)) / _BIN_LOG)
            shift[: 1 if service.slowdown.one_host else None] = slower
        bins = np.clip(bins + shift[host], 1, BIN_OVER)
        return ((operation * service.hosts + host) << BIN_BITS) | bins, counts

    def _table(self, codes: _Ints, counts: _Ints, start_ms: int, number: int) -> SpanTable:
        """Return the table that the folds would build from these spans."""
        service, random = self._service, self._random
        cell, bins = codes >> BIN_BITS, codes & BIN_MASK
        operation, host = np.divmod(cell, service.hosts)
        names = sorted(set(self._names))
        keys = [Series(KIND_SERVER, Dimension.SERVICE, "")]
        keys += [Series(KIND_SERVER, Dimension.HOST, name) for name in names]
        operations = (f"GET /{number:02d}" for number in range(operation.max() + 1))
        keys += [Series(KIND_SERVER, Dimension.OPERATION, name) for name in operations]
        place = np.array([names.index(name) for name in self._names])[host]
        row = np.concatenate((np.zeros_like(cell), 1 + place, 1 + len(names) + operation))
        cells, sums = sum_by_code((row << BIN_BITS) | np.tile(bins, 3), np.tile(counts, 3))
        present, row = np.unique(cells >> BIN_BITS, return_inverse=True)
        keys = [keys[index] for index in present.tolist()]
        sketches = Sketches(keys, np.zeros(len(keys), np.int64), (row << BIN_BITS) | (cells & BIN_MASK), sums)
        errors = random.binomial(sketches.spans(), service.error_share)
        errors[0] = min(int(sketches.spans()[0]), int(errors[0]))
        longest = int(EDGES_NS[min(int(bins.max()), len(EDGES_NS) - 1)])
        trace = f"{number:016x}{int(service.name[-2:]):016x}"
        return SpanTable(
            replace(sketches, errors=errors).pack(),
            info=ServiceInfo(f"1.{self._version}", start_ms),
            slowest=(Exemplar(longest, trace, self._names[int(host[bins.argmax()])], "GET /"),),
            ranges=(OffsetRange("trace_events", 0, number, number),),
        )

    def _calls(self, callee: QuietCallee, number: int) -> SpanTable | None:
        """Return the table of the paired calls to one callee; None if there are none."""
        random = self._random
        calls = int(random.poisson(callee.calls))
        if not calls:
            return None
        work_ns = REPRESENTATIVE_NS[np.searchsorted(callee.work, random.random(calls) * callee.work[-1])]
        # The network is a little slower now and then for all calls, and some wait in a queue.
        usual_ns = callee.way_ns * float(np.exp(0.1 * random.standard_normal()))
        way_ns = usual_ns * np.exp(callee.way_sigma * random.standard_normal(calls))
        way_ns[random.random(calls) < callee.queued_share] *= callee.queued
        codes = [(row << BIN_BITS) | bins_of(ns.astype(np.int64)) for row, ns in enumerate((work_ns + way_ns, way_ns))]
        cells, counts = np.unique(np.concatenate(codes), return_counts=True)
        keys = [Series(KIND_CLIENT, dimension, callee.name) for dimension in (Dimension.CALLEE, Dimension.NETWORK_TIME)]
        longest_ns = int((work_ns + way_ns).max())
        exemplar = Exemplar(longest_ns, f"{number:016x}{int(self._service.name[-2:]):016x}", self._names[0], "call")
        sketches = Sketches(keys, np.zeros(len(keys), np.int64), cells, counts)
        return SpanTable(sketches.pack(), calls=((callee.name, exemplar),))
