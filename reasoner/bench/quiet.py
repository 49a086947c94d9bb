"""False alarms about latency on normal days, and detection of slow-downs that are planted into such days.

The shipped rule with its default settings runs over the final windows of each service (`reasoner.traffic.fleet`).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

from reasoner.evaluate.result import Result
from reasoner.traffic.fleet import ANOMALY_WINDOWS, WARM_WINDOWS, WINDOW_MS, QuietService, Slowdown, Traffic, fleet
from state_schemas.contracts.insight import Insight
from state_schemas.state.latency import LatencyModel
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.latency.rule import evaluate_spans
from udfs.detect.service_window import ServiceKey, ServiceWindow

START_MS: Final = 1_700_006_400_000  # midnight
FACTORS: Final = (1.3, 1.5, 2.0, 3.0, 5.0, 10.0)
PLANTED: Final = 200
ENV: Final = "quiet"
SETTING: Final = "30 services with calls, 1 to 100,000 spans a window"


Report = Callable[[str], None]


class Planted(NamedTuple):
    """A planted slow-down and the windows from its start to the first insight, None without an insight."""

    slowdown: Slowdown
    delay_windows: int | None


def watch(service: QuietService, seed: int, windows: int) -> list[tuple[int, Insight]]:
    """Return (window, insight) for each insight that opens in the first `windows` windows of the service."""
    traffic, model, opened = Traffic(service, seed), LatencyModel(), []
    config = SpikeConfig()
    for number in range(windows):
        start_ms = START_MS + number * WINDOW_MS
        table = traffic.window(number, start_ms)
        if table is None:
            continue
        window = ServiceWindow(ServiceKey(ENV, service.name), start_ms, start_ms + WINDOW_MS, table)
        model, candidates = evaluate_spans(model, window, config)
        opened += [(number, candidate) for candidate in candidates if candidate.status == "open"]
    return opened


def bench_quiet(hours: int, seeds: int, report: Report) -> Result:
    """Measure alarms on normal days, and rate and delay of detection by size of slow-down.

    Takes minutes for a seed of 24 hours, on two cores.
    """
    scores, alarms = false_alarms(fleet, watch, hours, seeds, report)
    report(f"{PLANTED} planted slow-downs")
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(_detected, *zip(*_plan(), strict=True), chunksize=4))
    rows = [_by_size(found, factor) for factor in FACTORS]
    scores |= {f"detected_{str(row['factor']).replace('.', '_')}x": row["detected"] for row in rows}
    return Result("bench quiet", f"{SETTING}, {hours} h", scores, rows + alarms)


def false_alarms(
    fleet: Callable[[int], Sequence[Any]], watch: Callable[..., Any], hours: int, seeds: int, report: Report
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the scores of normal days, and a row for each alarm. mean_a_window: spans or requests of a usual window.

    watch: a function of (service, seed, number of windows) as `watch` here; it runs in two other processes.
    """
    windows = hours * 3_600_000 // WINDOW_MS
    quiet = [(service, seed, windows) for seed in range(seeds) for service in fleet(seed)]
    alarms: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2) as pool:
        watched = pool.map(watch, *zip(*quiet, strict=True), chunksize=2)
        for (service, seed, _), opened in zip(quiet, watched, strict=True):
            about = {"seed": seed, "service": service.name, "mean_a_window": round(service.rate, 1)}
            alarms += [
                {**about, "window": number, "alarm": insight.title, "kind": insight.kind} for number, insight in opened
            ]
            report(f"seed {seed}, {service.name} ({service.rate:,.0f} a window): {len(opened)} alarms")
    per_day = [sum(alarm["seed"] == seed for alarm in alarms) * 24 / hours for seed in range(seeds)]
    scores = {
        "alarms_per_env_day": round(max(per_day), 3),
        "alarms_per_env_day_mean": round(sum(per_day) / len(per_day), 3),
        "seeds": float(seeds),
        "hours": float(hours),
    }
    return scores, alarms


def _detected(service: QuietService, seed: int) -> Planted:
    slowdown = service.slowdown
    assert slowdown is not None, "only services with a planted slow-down are given"
    opened = watch(service, seed, WARM_WINDOWS + ANOMALY_WINDOWS)
    during = [number - WARM_WINDOWS for number, insight in opened if number >= WARM_WINDOWS]
    return Planted(slowdown, min(during, default=None))


def _plan() -> list[tuple[QuietService, int]]:
    """Return services with a slow-down: each size, services of each rate, one host or all, sudden or gradual."""
    random, tasks = np.random.default_rng(7), []
    for number in range(PLANTED):
        seed = 100 + number
        services = fleet(seed)
        service = services[int(random.integers(len(services)))]
        slowdown = Slowdown(
            factor=FACTORS[number % len(FACTORS)],
            one_host=bool(number // len(FACTORS) % 2),
            gradual=bool(number // (2 * len(FACTORS)) % 2),
        )
        tasks.append((replace(service, slowdown=slowdown), seed))
    return tasks


def _by_size(found: list[Planted], factor: float) -> dict[str, Any]:
    of_size = [planted for planted in found if planted.slowdown.factor == factor]
    return {
        "factor": factor,
        "planted": len(of_size),
        "detected": _rate(of_size),
        "detected_all_hosts": _rate([planted for planted in of_size if not planted.slowdown.one_host]),
        "detected_one_host": _rate([planted for planted in of_size if planted.slowdown.one_host]),
        "delay_s_median_sudden": delay_s_median(p.delay_windows for p in of_size if not p.slowdown.gradual),
        "delay_s_median_gradual": delay_s_median(p.delay_windows for p in of_size if p.slowdown.gradual),
    }


def _rate(planted: list[Planted]) -> float:
    hits = sum(one.delay_windows is not None for one in planted)
    return round(hits / len(planted), 3) if planted else 0.0


def delay_s_median(delays_windows: Iterable[int | None]) -> float | None:
    """Return the median delay of the detected anomalies; None if there is none."""
    delays = [windows * WINDOW_MS / 1000 for windows in delays_windows if windows is not None]
    return median(delays) if delays else None
