"""Insights about lines and calls per request: one service, one window after the other."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from state_schemas.aggregates.requests import EffectWindow
from state_schemas.contracts.insight import Insight
from state_schemas.state.requests import EffectModel
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from tests.support.timeline import last, window_of
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.detect.lifecycle import UNSEEN
from udfs.detect.requests.rule import DEPLOYED, LIFE, EffectConfig, evaluate_effects
from udfs.detect.service_window import ServiceKey, ServiceWindow

HOUR = 360  # windows
X, Y, Z = "line|x", "line|y", "line|z"
DB = "call|3|SELECT orders"


class Done(NamedTuple):
    """One window: requests by operation, and their effects."""

    requests: dict[str, int]
    effects: dict[str, int]
    version: str = ""


Story = Callable[[int, int], Done]  # (number of the window, a count with Poisson mean 100) -> window


def emitted(windows: int, story: Story, rate: float = 100.0, gap: tuple[int, int] = (0, 0)) -> list[Insight]:
    """Return every candidate. gap: (window, number of windows without data before it)."""
    random, model, out = np.random.default_rng(7), EffectModel(), []
    for window in range(windows):
        done = story(window, int(random.poisson(rate)))
        start_ms = START_MS + (window + (gap[1] if gap[1] and window >= gap[0] else 0)) * WINDOW_MS
        info, ranges = ServiceInfo(done.version, start_ms), (OffsetRange("logs_raw", 0, window, window),)
        effects = {name: count for name, count in done.effects.items() if count}
        requests = {name: count for name, count in done.requests.items() if count}
        templates = {name: name for name in effects if name.startswith("line|")}
        table = EffectWindow(requests, effects, templates, (), info, ranges)
        now = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, table)
        model, candidates = evaluate_effects(model, now, EffectConfig())
        out += candidates
    return out


def brief(found: list[Insight]) -> list[tuple[str, str, str]]:
    return [(insight.kind, insight.subject, insight.reason or insight.status) for insight in last(found)]


def usual(n: int, **more: int) -> dict[str, int]:
    return {X: n, Y: n, Z: 2 * n, DB: 3 * n} | {name.replace("_", "|"): count for name, count in more.items()}


def test_a_line_that_stops_is_reported_within_a_minute_and_closed_when_it_comes_again_once() -> None:
    found = emitted(500, lambda window, n: Done({"a": n}, usual(n) | {X: 0 if 400 <= window < 430 else n}))
    assert brief(found) == [("pattern_missing", "x", LIFE.recovered)]
    first = found[0]
    assert window_of(first.window.start_ms) == 400
    assert first.window.end_ms - first.window.start_ms == 6 * WINDOW_MS
    assert first.measures["lines"] == 0
    assert first.measures["lines_per_request_usual"] == pytest.approx(1, abs=0.02)
    assert first.title.startswith("cart: line missing: 0 in ")
    assert first.evidence.template == "line|x"
    assert first.evidence.kafka[0].first_offset == 400
    assert "last seen in the window of" in first.evidence.expected


def test_calls_that_double_and_calls_that_are_no_longer_made() -> None:
    found = emitted(500, lambda window, n: Done({"a": n}, usual(n) | {DB: 7 * n if window >= 400 else 3 * n}))
    assert brief(found) == [("trace_shape_change", "SELECT orders", "updated")]
    assert found[0].title.startswith("cart: calls 7.0 per request (usually 3.0) since ")
    assert found[0].title.endswith(": SELECT orders")
    assert [part.name for part in found[0].evidence.operations] == ["SELECT orders"]
    found = emitted(500, lambda window, n: Done({"a": n}, usual(n) | {DB: 0 if window >= 400 else 3 * n}))
    assert found[0].title.startswith("cart: call missing: 0 in ")


def test_an_insight_names_every_effect_that_changes_while_it_is_open() -> None:
    """DB stops ten windows after X."""
    stops = {X: 400, DB: 410}
    found = emitted(
        480,
        lambda window, n: Done({"a": n}, {k: 0 if window >= stops.get(k, 9_999) else v for k, v in usual(n).items()}),
    )
    assert {insight.insight_id for insight in found} == {found[0].insight_id}
    assert (found[0].measures["effects"], found[-1].measures["effects"]) == (1.0, 2.0)


def test_a_change_that_stays_is_usual_after_half_an_hour() -> None:
    found = emitted(800, lambda window, n: Done({"a": n}, usual(n) | {X: n // 10 if window >= 400 else n}))
    assert brief(found) == [("pattern_missing", "x", LIFE.accepted)]


def test_an_insight_without_data_for_ten_minutes_is_closed_and_opens_again() -> None:
    found = emitted(480, lambda window, n: Done({"a": n}, usual(n) | {X: 0 if window >= 400 else n}), gap=(440, 100))
    assert [kind_and_reason[2] for kind_and_reason in brief(found)] == [UNSEEN.reason, "updated"]


QUIET: dict[str, tuple[int, Story]] = {
    "ten times the traffic": (600, lambda window, n: grown(window, n)),
    "a line of a clock, and ten times the traffic": (900, lambda window, n: grown(window, n, line_clock=5)),
    "a mix that shifts within the hour": (
        2_000,
        lambda window, n: Done(
            {"a": round(n * share(window)), "b": round(n * (1 - share(window)))},
            {X: round(n * share(window)), Y: round(n * (1 - share(window))), DB: 3 * round(n * (1 - share(window)))},
        ),
    ),
    "lines of the start": (400, lambda window, n: Done({"a": n}, usual(n, line_start=300 if window == 0 else 0))),
    "a burst": (900, lambda window, n: Done({"a": n}, usual(n, line_burst=900 if window == 300 else 0))),
    "a cron job": (2_000, lambda window, n: Done({"a": n}, usual(n, line_cron=500 if window % 60 == 7 else 0))),
    "an operation of its own every ten minutes": (
        2_000,
        lambda window, n: Done(
            {"a": n, "report": int(window % 60 == 7)}, usual(n, line_rows=50 * int(window % 60 == 7))
        ),
    ),
    "spans sampled ten times as often": (
        600,
        lambda window, n: Done({"a": n if window >= 400 else n // 10}, {X: n, Y: 2 * n}),
    ),
    "the same with one line": (600, lambda window, n: Done({"a": n if window >= 400 else n // 10}, {X: n})),
    "seven of ten requests fail": (
        600,
        lambda window, n: (
            Done({"a": n, "!": 0}, usual(n))
            if window < 400
            else Done({"a": 3 * n // 10, "!": n - 3 * n // 10}, usual(3 * n // 10))
        ),
    ),
    "another version renames a line": (
        900,
        lambda window, n: Done({"a": n}, {f"line|v{window >= 400}": n, Y: n, Z: n}, f"1.{int(window >= 400)}"),
    ),
    "a version that is taken back": (
        1_300,
        lambda window, n: Done({"a": n}, {f"line|v{400 <= window < 800}": n, Y: n}, f"1.{int(400 <= window < 800)}"),
    ),
    "one request a minute": (2_000, lambda window, n: Done({"a": n % 6 // 5}, {X: n % 6 // 5, Y: n % 6 // 5})),
}


def grown(window: int, n: int, **more: int) -> Done:
    """Make a window of ten times the traffic from window 500 on. more: counts that do not grow."""
    n *= 10 if window >= 500 else 1
    return Done({"a": n}, usual(n, **more))


def share(window: int) -> float:
    return 0.5 + 0.45 * float(np.sin(2 * np.pi * window / HOUR))


@pytest.mark.parametrize("case", QUIET)
def test_no_insight_opens_for(case: str) -> None:
    windows, story = QUIET[case]
    assert [insight.title for insight in emitted(windows, story) if insight.status == "open"] == []


def test_an_open_insight_ends_with_another_version() -> None:
    found = emitted(
        420, lambda window, n: Done({"a": n}, usual(n) | {X: 0 if window >= 400 else n}, f"1.{int(window >= 410)}")
    )
    assert brief(found) == [("pattern_missing", "x", DEPLOYED.reason)]
