"""False alarms about lines and calls on normal days, and detection of lines and calls that stop.

The shipped rules with their default settings run over the final windows of each service
(`reasoner.traffic.request_fleet`).
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from reasoner.bench.quiet import ENV, START_MS, Report, delay_s_median, false_alarms
from reasoner.evaluate.result import Result
from reasoner.traffic.fleet import ANOMALY_WINDOWS, SERVICES, WARM_WINDOWS, WINDOW_MS
from reasoner.traffic.request_fleet import EffectTraffic, QuietEffects, Stop, fleet_of_effects
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_patterns import LogPatternModel
from state_schemas.state.requests import EffectModel
from udfs.detect.log_patterns.rule import PatternConfig, evaluate_lines
from udfs.detect.requests.report import subject_of_effect
from udfs.detect.requests.rule import EffectConfig, evaluate_effects
from udfs.detect.service_window import ServiceKey, ServiceWindow

LEFT: Final = (0.0, 0.2, 0.4)
PLANTED: Final = 150
SETTING: Final = "30 services, 1 to 100,000 requests a window, mixes that shift"


class Planted(NamedTuple):
    """A planted stop and its detection.

    - left: share of the effect that remains.
    - expected: usual count of the effect in a window.
    - delay_windows: windows from the stop to the first insight, None without an insight.
    """

    left: float
    expected: float
    delay_windows: int | None


def watch(service: QuietEffects, seed: int, windows: int) -> list[tuple[int, Insight]]:
    """Return (window, insight) for each insight that opens in the first `windows` windows of the service."""
    traffic, effects, lines = EffectTraffic(service, seed), EffectModel(), LogPatternModel()
    opened: list[tuple[int, Insight]] = []
    for number in range(windows):
        start_ms = START_MS + number * WINDOW_MS
        found = traffic.window(number, start_ms)
        if found is None:
            continue
        key, end_ms = ServiceKey(ENV, service.name), start_ms + WINDOW_MS
        effects, candidates = evaluate_effects(effects, ServiceWindow(key, start_ms, end_ms, found[0]), EffectConfig())
        lines, more = evaluate_lines(lines, ServiceWindow(key, start_ms, end_ms, found[1]), PatternConfig())
        opened += [(number, candidate) for candidate in (*candidates, *more) if candidate.status == "open"]
    return opened


def bench_shapes(hours: int, seeds: int, report: Report) -> Result:
    """Measure alarms on normal days, and share and delay of stops that are detected.

    Takes minutes for a seed of 24 hours, on two cores.
    """
    scores, alarms = false_alarms(fleet_of_effects, watch, hours, seeds, report)
    report(f"{PLANTED} stops")
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(_detected, *zip(*_plan(), strict=True), chunksize=4))
    rows = [row for left in LEFT for row in _by_rate(found, left)]
    return Result("bench shapes", f"{SETTING}, {hours} h", scores, rows + alarms)


def _plan() -> list[tuple[QuietEffects, int]]:
    random, tasks = np.random.default_rng(5), []
    for number in range(PLANTED):
        seed = 100 + number
        service = fleet_of_effects(seed)[number % SERVICES]
        stop = Stop(str(random.choice(service.names)), LEFT[number % len(LEFT)])
        tasks.append((replace(service, stop=stop), seed))
    return tasks


def _detected(service: QuietEffects, seed: int) -> Planted:
    stop = service.stop
    assert stop is not None, "only services with a planted stop are given"
    opened = watch(service, seed, WARM_WINDOWS + ANOMALY_WINDOWS)
    subject = subject_of_effect(stop.name)
    during = [
        number - WARM_WINDOWS for number, insight in opened if number >= WARM_WINDOWS and insight.subject == subject
    ]
    expected = service.rate * float(service.mean[service.names.index(stop.name)] @ service.shares)
    return Planted(stop.left, expected, min(during, default=None))


def _by_rate(found: list[Planted], left: float) -> list[dict[str, Any]]:
    """Return one row for each usual rate of the effect, over the stops to `left`."""
    rows = []
    for name, low, high in (("under 1 a window", 0, 1), ("1 to 10", 1, 10), ("10 and more", 10, float("inf"))):
        of_rate = [planted for planted in found if planted.left == left and low <= planted.expected < high]
        delays = [planted.delay_windows for planted in of_rate if planted.delay_windows is not None]
        row = {"left": left, "usually": name, "planted": len(of_rate), "found": len(delays)}
        rows.append({**row, "delay_s_median": delay_s_median(delays)})
    return rows
