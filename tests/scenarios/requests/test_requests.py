"""What is said of lines and calls against requests: one service, a pane after the other."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from state_schemas.aggregates.requests import ShapePane
from state_schemas.contracts.insight import Insight
from state_schemas.state.requests import ShapesLearnt
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from tests.support.timeline import last, pane_of
from tests.support.traffic import PANE_MS, START_MS
from udfs.detect.requests.rule import ACCEPTED, DEPLOYED, RECOVERED, UNSEEN, PaneOfShapes, ShapeConfig, watch_shapes

HOUR = 360  # panes
X, Y, Z = "line|x", "line|y", "line|z"
DB = "call|3|SELECT orders"


class Done(NamedTuple):
    """In one pane: requests by operation, and what came with them."""

    requests: dict[str, int]
    shapes: dict[str, int]
    version: str = ""


Story = Callable[[int, int], Done]  # of the pane's number and a Poisson count of 100


def told(panes: int, story: Story, rate: float = 100.0, gap: tuple[int, int] = (0, 0)) -> list[Insight]:
    """Every draft. gap: before which pane nothing is heard for how many panes."""
    random, learnt, out = np.random.default_rng(7), ShapesLearnt(), []
    for pane in range(panes):
        done = story(pane, int(random.poisson(rate)))
        start_ms = START_MS + (pane + (gap[1] if gap[1] and pane >= gap[0] else 0)) * PANE_MS
        facts, ranges = ServiceInfo(done.version, start_ms), (OffsetRange("logs_raw", 0, pane, pane),)
        shapes = {name: count for name, count in done.shapes.items() if count}
        requests = {name: count for name, count in done.requests.items() if count}
        templates = {name: name for name in shapes if name.startswith("line|")}
        block = ShapePane(requests, shapes, templates, (), facts, ranges)
        now = PaneOfShapes("prod", "cart", start_ms, start_ms + PANE_MS, block)
        learnt, drafts = watch_shapes(learnt, now, ShapeConfig())
        out += drafts
    return out


def brief(found: list[Insight]) -> list[tuple[str, str, str]]:
    return [(insight.kind, insight.subject, insight.reason or insight.status) for insight in last(found)]


def usual(n: int, **more: int) -> dict[str, int]:
    return {X: n, Y: n, Z: 2 * n, DB: 3 * n} | {name.replace("_", "|"): count for name, count in more.items()}


def test_a_line_that_stops_is_told_within_a_minute_and_closed_when_it_comes_again_once() -> None:
    found = told(500, lambda pane, n: Done({"a": n}, usual(n) | {X: 0 if 400 <= pane < 430 else n}))
    assert brief(found) == [("pattern_missing", "x", RECOVERED)]
    first = found[0]
    assert pane_of(first.window.start_ms) == 400
    assert first.window.end_ms - first.window.start_ms == 6 * PANE_MS
    assert first.measures["lines"] == 0
    assert first.measures["lines_per_request_usual"] == pytest.approx(1, abs=0.02)
    assert first.title.startswith("cart logs no longer in ")
    assert first.evidence.template == "line|x"
    assert first.evidence.kafka[0].first_offset == 400
    assert "last seen in the pane of" in first.evidence.expected


def test_calls_that_double_and_calls_that_are_no_longer_made() -> None:
    found = told(500, lambda pane, n: Done({"a": n}, usual(n) | {DB: 7 * n if pane >= 400 else 3 * n}))
    assert brief(found) == [("trace_shape_change", "SELECT orders", "updated")]
    assert "cart calls SELECT orders" in found[0].title
    assert [part.name for part in found[0].evidence.operations] == ["SELECT orders"]
    found = told(500, lambda pane, n: Done({"a": n}, usual(n) | {DB: 0 if pane >= 400 else 3 * n}))
    assert "cart no longer calls SELECT orders" in found[0].title


def test_everything_that_changes_meanwhile_is_named_in_one_insight() -> None:
    """DB stops ten panes after x."""
    stops = {X: 400, DB: 410}
    found = told(
        480, lambda pane, n: Done({"a": n}, {k: 0 if pane >= stops.get(k, 9_999) else v for k, v in usual(n).items()})
    )
    assert {insight.insight_id for insight in found} == {found[0].insight_id}
    assert (found[0].measures["shapes"], found[-1].measures["shapes"]) == (1.0, 2.0)


def test_what_stays_is_usual_after_half_an_hour() -> None:
    found = told(800, lambda pane, n: Done({"a": n}, usual(n) | {X: n // 10 if pane >= 400 else n}))
    assert brief(found) == [("pattern_missing", "x", ACCEPTED)]


def test_what_is_not_heard_for_ten_minutes_is_closed_and_told_again() -> None:
    found = told(480, lambda pane, n: Done({"a": n}, usual(n) | {X: 0 if pane >= 400 else n}), gap=(440, 100))
    assert [kind_and_reason[2] for kind_and_reason in brief(found)] == [UNSEEN, "updated"]


QUIET: dict[str, tuple[int, Story]] = {
    "ten times the traffic": (600, lambda pane, n: grown(pane, n)),
    "a line of a clock, and ten times the traffic": (900, lambda pane, n: grown(pane, n, line_clock=5)),
    "a mix that shifts within the hour": (
        2_000,
        lambda pane, n: Done(
            {"a": round(n * share(pane)), "b": round(n * (1 - share(pane)))},
            {X: round(n * share(pane)), Y: round(n * (1 - share(pane))), DB: 3 * round(n * (1 - share(pane)))},
        ),
    ),
    "lines of the start": (400, lambda pane, n: Done({"a": n}, usual(n, line_start=300 if pane == 0 else 0))),
    "a burst": (900, lambda pane, n: Done({"a": n}, usual(n, line_burst=900 if pane == 300 else 0))),
    "a cron job": (2_000, lambda pane, n: Done({"a": n}, usual(n, line_cron=500 if pane % 60 == 7 else 0))),
    "an operation of its own every ten minutes": (
        2_000,
        lambda pane, n: Done({"a": n, "report": int(pane % 60 == 7)}, usual(n, line_rows=50 * int(pane % 60 == 7))),
    ),
    "spans sampled ten times as often": (
        600,
        lambda pane, n: Done({"a": n if pane >= 400 else n // 10}, {X: n, Y: 2 * n}),
    ),
    "the same with one line": (600, lambda pane, n: Done({"a": n if pane >= 400 else n // 10}, {X: n})),
    "seven of ten requests fail": (
        600,
        lambda pane, n: (
            Done({"a": n, "!": 0}, usual(n))
            if pane < 400
            else Done({"a": 3 * n // 10, "!": n - 3 * n // 10}, usual(3 * n // 10))
        ),
    ),
    "another version renames a line": (
        900,
        lambda pane, n: Done({"a": n}, {f"line|v{pane >= 400}": n, Y: n, Z: n}, f"1.{int(pane >= 400)}"),
    ),
    "a version that is taken back": (
        1_300,
        lambda pane, n: Done({"a": n}, {f"line|v{400 <= pane < 800}": n, Y: n}, f"1.{int(400 <= pane < 800)}"),
    ),
    "one request a minute": (2_000, lambda pane, n: Done({"a": n % 6 // 5}, {X: n % 6 // 5, Y: n % 6 // 5})),
}


def grown(pane: int, n: int, **more: int) -> Done:
    """Ten times as much from pane 500 on, but for what is given."""
    n *= 10 if pane >= 500 else 1
    return Done({"a": n}, usual(n, **more))


def share(pane: int) -> float:
    return 0.5 + 0.45 * float(np.sin(2 * np.pi * pane / HOUR))


@pytest.mark.parametrize("what", QUIET)
def test_nothing_is_said_of(what: str) -> None:
    panes, story = QUIET[what]
    assert [insight.title for insight in told(panes, story) if insight.status == "open"] == []


def test_an_open_insight_ends_with_another_version() -> None:
    found = told(420, lambda pane, n: Done({"a": n}, usual(n) | {X: 0 if pane >= 400 else n}, f"1.{int(pane >= 410)}"))
    assert brief(found) == [("pattern_missing", "x", DEPLOYED)]
