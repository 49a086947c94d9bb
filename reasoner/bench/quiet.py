"""False alarms about latency on normal days, and detection of slow-downs that are planted into such days.

The shipped rule with its default settings runs over the final windows of each service (`reasoner.traffic.fleet`).
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any, Final, NamedTuple

import numpy as np

from reasoner.evaluate.result import Result
from reasoner.traffic.fleet import WINDOW_MS, QuietService, Slowdown, Traffic, fleet
from state_schemas.contracts.insight import Insight
from state_schemas.state.latency import LatencyModel
from udfs.detect.latency.baseline import SpikeConfig
from udfs.detect.latency.rule import evaluate_spans
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.spans.window import NameLimits

START_MS: Final = 1_700_006_400_000  # midnight
FACTORS: Final = (1.3, 1.5, 2.0, 3.0, 5.0, 10.0)
PLANTED: Final = 200
WARM_WINDOWS: Final = 720  # two hours before the slow-down
SLOW_WINDOWS: Final = 120
ENV: Final = "quiet"
SETTING: Final = "30 services with calls, 1 to 100,000 spans a window"


class Planted(NamedTuple):
    """A planted slow-down and its detection.

    - rate: mean spans of a window of the service.
    - delay_windows: windows from the start of the slow-down to the first insight, None without an insight.
    """

    service: str
    rate: float
    slowdown: Slowdown
    delay_windows: int | None


def watch(service: QuietService, seed: int, windows: int) -> list[tuple[int, Insight]]:
    """Return (window, insight) for each insight that opens in the first `windows` windows of the service."""
    traffic, model, opened = Traffic(service, seed), LatencyModel(), []
    config, names = SpikeConfig(), NameLimits()
    for number in range(windows):
        start_ms = START_MS + number * WINDOW_MS
        table = traffic.window(number, start_ms)
        if table is None:
            continue
        window = ServiceWindow(ServiceKey(ENV, service.name), start_ms, start_ms + WINDOW_MS, table)
        model, candidates = evaluate_spans(model, window, config, names)
        opened += [(number, candidate) for candidate in candidates if candidate.status == "open"]
    return opened


def bench_quiet(hours: int, seeds: int, report: Callable[[str], None]) -> Result:
    """Measure alarms on normal days, and rate and delay of detection by size of slow-down.

    Takes minutes for a seed of 24 hours, on two cores.
    """
    windows = hours * 3_600_000 // WINDOW_MS
    quiet = [(service, seed, windows) for seed in range(seeds) for service in fleet(seed)]
    with ProcessPoolExecutor(2) as pool:
        alarms = dict.fromkeys(range(seeds), 0)
        detail: list[dict[str, Any]] = []
        watched = pool.map(watch, *zip(*quiet, strict=True), chunksize=2)
        for (service, seed, _), opened in zip(quiet, watched, strict=True):
            alarms[seed] += len(opened)
            detail += [_alarm(seed, service, number, insight) for number, insight in opened]
            report(f"seed {seed}, {service.name} ({service.rate:,.0f} spans a window): {len(opened)} alarms")
        report(f"{PLANTED} planted slow-downs")
        found = list(pool.map(_detected, *zip(*_plan(), strict=True), chunksize=4))
    per_day = [number * 24 / hours for number in alarms.values()]
    rows = [_by_size(found, factor) for factor in FACTORS]
    scores = {
        "alarms_per_env_day": round(max(per_day), 3),
        "alarms_per_env_day_mean": round(sum(per_day) / len(per_day), 3),
        "seeds": float(seeds),
        "hours": float(hours),
        **{f"detected_{str(row['factor']).replace('.', '_')}x": row["detected"] for row in rows},
    }
    return Result("bench quiet", f"{SETTING}, {hours} h", scores, rows + detail)


def _detected(service: QuietService, seed: int) -> Planted:
    slowdown = service.slowdown
    assert slowdown is not None, "only services with a planted slow-down are given"
    opened = watch(service, seed, WARM_WINDOWS + SLOW_WINDOWS)
    during = [number - slowdown.first_window for number, insight in opened if number >= slowdown.first_window]
    return Planted(service.name, service.rate, slowdown, min(during, default=None))


def _plan() -> list[tuple[QuietService, int]]:
    """Return services with a slow-down: each size, services of each rate, one host or all, sudden or gradual."""
    random, tasks = np.random.default_rng(7), []
    for number in range(PLANTED):
        seed = 100 + number
        services = fleet(seed)
        service = services[int(random.integers(len(services)))]
        slowdown = Slowdown(
            first_window=WARM_WINDOWS,
            windows=SLOW_WINDOWS,
            factor=FACTORS[number % len(FACTORS)],
            one_host=bool(number // len(FACTORS) % 2),
            gradual=bool(number // (2 * len(FACTORS)) % 2),
        )
        tasks.append((replace(service, slowdown=slowdown), seed))
    return tasks


def _alarm(seed: int, service: QuietService, number: int, insight: Insight) -> dict[str, Any]:
    rate = round(service.rate)
    return {"seed": seed, "service": service.name, "spans_a_pane": rate, "pane": number, "alarm": insight.title}


def _by_size(found: list[Planted], factor: float) -> dict[str, Any]:
    of_size = [planted for planted in found if planted.slowdown.factor == factor]
    row: dict[str, Any] = {"factor": factor, "planted": len(of_size), **_rate("detected", of_size)}
    row |= _rate("detected_all_hosts", [planted for planted in of_size if not planted.slowdown.one_host])
    row |= _rate("detected_one_host", [planted for planted in of_size if planted.slowdown.one_host])
    for name, gradual in (("sudden", False), ("gradual", True)):
        delays = [
            planted.delay_windows * WINDOW_MS / 1000
            for planted in of_size
            if planted.delay_windows is not None and planted.slowdown.gradual == gradual
        ]
        row[f"delay_s_median_{name}"] = median(delays) if delays else None
    return row


def _rate(name: str, of_size: list[Planted]) -> dict[str, float]:
    hits = sum(planted.delay_windows is not None for planted in of_size)
    return {name: round(hits / len(of_size), 3) if of_size else 0.0}


def svg(result: Result) -> str:
    """Return a chart of the detection rate by size, for all hosts and for one host."""
    rows = [row for row in result.detail if "factor" in row]
    width, height, left, bottom = 520, 300, 50, 40
    step = (width - left - 20) / max(1, len(rows) - 1)
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="white"/>',
    ]

    def y_of(share: float) -> float:
        return height - bottom - share * (height - bottom - 30)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = y_of(share)
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
    lines = (("detected_all_hosts", "#1f77b4", "all hosts", -8), ("detected_one_host", "#d62728", "one host", 18))
    for name, colour, label, above in lines:
        points = [(left + place * step, y_of(row[name])) for place, row in enumerate(rows)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = points[-1]
        parts.append(f'<text x="{x}" y="{y + above}" text-anchor="end" fill="{colour}">{label}</text>')
    for place, row in enumerate(rows):
        x = left + place * step
        parts.append(f'<text x="{x}" y="{height - 20}" text-anchor="middle">{row["factor"]:g}×</text>')
    return "\n".join([*parts, "</svg>", ""])
