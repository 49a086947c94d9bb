"""Effects of requests on normal days: lines and calls by window, as input of detection.

1 to 100,000 requests a window with a separate day curve for each operation, so that the mix shifts all day; lines with
each request, with some, or several per request, which vary more than chance; lines of a clock; warnings in bursts;
deploys that rename lines while two versions run side by side. A line or a call can be made to stop.
"""

from dataclasses import dataclass
from math import pi, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reasoner.traffic.fleet import ANOMALY_WINDOWS, DAY_MS, SERVICES, WARM_WINDOWS
from state_schemas.aggregates.logs import LogTable, PatternCount
from state_schemas.aggregates.requests import CALL, LINE, EffectWindow
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo

REQUESTS_MAX: Final = 100_000
DEPLOY_WINDOWS: Final = 4_320  # twice a day
ROLLING_WINDOWS: Final = 6  # windows in which both versions answer
RENAMED_SHARE: Final = 0.3
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stop:
    """A planted stop of one effect after WARM_WINDOWS, for ANOMALY_WINDOWS."""

    # Name of the effect.
    name: str
    # Share of the usual count per request that remains.
    left: float


@dataclass(frozen=True, slots=True)
class QuietEffects:
    """A service whose requests have normal effects."""

    name: str
    # Mean requests of a window.
    rate: float
    # Share of the requests of each operation.
    shares: _Floats
    # Phase of the day curve of each operation, 0..1 days.
    phases: _Floats
    # Names of the effects.
    names: tuple[str, ...]
    # Mean count per request: (effect, operation).
    mean: _Floats
    # Gamma parameter of the factor on an effect's mean in each window, 0 for none.
    spread: _Floats
    # Name of a line -> windows between two of it.
    clock: dict[str, int]
    # Name of a warning -> (mean per request, size of a burst).
    warnings: dict[str, tuple[float, float]]
    stop: Stop | None = None


def fleet_of_effects(seed: int) -> list[QuietEffects]:
    """Return SERVICES services with rates from 1 to REQUESTS_MAX requests a window. Equal seeds give equal fleets."""
    random = np.random.default_rng((seed, 3))
    return [_service(random, number) for number in range(SERVICES)]


def _service(random: np.random.Generator, number: int) -> QuietEffects:
    operations, effects = int(random.integers(1, 13)), int(random.integers(3, 40))
    # An effect belongs to one operation or to several; once or a few times per request, or with a part of the requests.
    mean = np.zeros((effects, operations))
    for place in range(effects):
        belongs = random.random(operations) < 0.2
        belongs[int(random.integers(operations))] = True
        mean[place, belongs] = random.choice((1.0, 1.0, 2.0, random.uniform(0.01, 0.9), random.uniform(0.5, 5)))
    return QuietEffects(
        name=f"service-{number:02d}",
        rate=REQUESTS_MAX ** (number / (SERVICES - 1)),
        shares=random.dirichlet(np.full(operations, 0.7)),
        phases=random.uniform(0, 1, operations),
        names=tuple(
            f"{LINE}{place:016x}" if random.random() < 0.7 else f"{CALL}1|call-{place}" for place in range(effects)
        ),
        mean=mean,
        spread=np.where(random.random(effects) < 0.3, random.uniform(3, 30, effects), 0.0),
        clock={
            f"{LINE}c{place:015x}": int(random.choice((1, 1, 6, 30))) for place in range(int(random.integers(0, 4)))
        },
        warnings={
            f"{place:x}".rjust(16, "e"): (10 ** random.uniform(-5, -1.5), float(random.choice((1, 1, 3, 8))))
            for place in range(int(random.integers(1, 6)))
        },
    )


class EffectTraffic:
    """The windows of one service, in order."""

    def __init__(self, service: QuietEffects, seed: int) -> None:
        self._service = service
        self._random = np.random.default_rng((seed, 4, int(service.name[-2:])))
        self._mix = np.zeros(len(service.shares))
        self._version = 1
        self._renamed: dict[str, str] = {}

    def window(self, number: int, start_ms: int) -> tuple[EffectWindow, LogTable] | None:
        """Return the requests with their effects, and the lines of WARN and up; None for a window without requests."""
        service, random = self._service, self._random
        before, self._renamed = self._renamed, self._deployed(number)
        day = start_ms % DAY_MS / DAY_MS
        # The mix of operations also changes within minutes.
        self._mix = 0.98 * self._mix + 0.06 * random.standard_normal(len(self._mix))
        wave = np.array([1 + 0.7 * sin(2 * pi * (day + phase)) for phase in service.phases])
        means = service.rate * service.shares * wave * np.exp(self._mix) * random.gamma(20, 1 / 20)
        requests = random.poisson(means)
        if not requests.sum():
            return None
        effects = self._done(requests, number)
        rolling = number % DEPLOY_WINDOWS < ROLLING_WINDOWS and number >= DEPLOY_WINDOWS
        if rolling:  # the previous version answers half of the requests
            effects = _halved(effects, before or self._renamed, self._renamed)
        else:
            effects = {self._renamed.get(name, name): count for name, count in effects.items()}
        version = self._version - (1 if rolling and number % 2 else 0)
        info = ServiceInfo(f"1.{version}", start_ms)
        ranges = (OffsetRange("trace_events", 0, number, number),)
        answered = {f"op-{place}": int(count) for place, count in enumerate(requests) if count}
        lines = sum(count for name, count in effects.items() if name.startswith(LINE))
        return (
            EffectWindow(answered, effects, {}, (), info, ranges),
            self._table(int(requests.sum()), lines, info, ranges),
        )

    def _deployed(self, number: int) -> dict[str, str]:
        if number % DEPLOY_WINDOWS or not number:
            return self._renamed
        self._version += 1
        return self._renamed | {
            name: f"{name}-v{self._version}" for name in self._service.names if self._random.random() < RENAMED_SHARE
        }

    def _done(self, requests: NDArray[np.int64], number: int) -> dict[str, int]:
        service, random = self._service, self._random
        mean = service.mean.copy()
        noisy = service.spread > 0
        mean[noisy] *= random.gamma(service.spread[noisy], 1 / service.spread[noisy])[:, None]
        stop = service.stop
        if stop is not None and 0 <= number - WARM_WINDOWS < ANOMALY_WINDOWS:
            mean[service.names.index(stop.name)] *= stop.left
        counts = np.zeros(len(service.names), np.int64)
        for operation, requested in enumerate(requests.tolist()):
            each = mean[:, operation]
            whole = each == np.floor(each)
            counts += np.where(whole, (each * requested).astype(np.int64), random.poisson(each * requested))
        found = {name: int(count) for name, count in zip(service.names, counts, strict=True) if count}
        return found | {name: 1 for name, every in service.clock.items() if number % every == 0}

    def _table(self, requests: int, lines: int, info: ServiceInfo, ranges: tuple[OffsetRange, ...]) -> LogTable:
        random = self._random
        counts = [PatternCount(False, "other", lines, 9, ())] if lines else []
        severe = 0
        for name, (mean, burst) in sorted(self._service.warnings.items()):
            number = int(random.poisson(random.poisson(mean * requests / burst) * burst))
            if number:
                severe += number
                counts.append(PatternCount(True, name, number, 13, (f" {name}",)))
        return LogTable(tuple(counts), severe, info, ranges)


def _halved(effects: dict[str, int], before: dict[str, str], now: dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in effects.items():
        for renamed, part in ((before, count // 2), (now, count - count // 2)):
            called = renamed.get(name, name)
            if part:
                found[called] = found.get(called, 0) + part
    return found
