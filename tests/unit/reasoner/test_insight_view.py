"""Insights as people read them: which are shown, and their lines."""

import msgspec
import pytest

from reasoner.errors import WrongUse
from reasoner.runs.insight_view import Wanted, body, head, shown, since_ms, summary
from state_schemas.contracts.insight import Insight, Severity, Status, Window
from tests.support.outputs import INSIGHT

START_MS = 1_790_000_000_000  # 2026-09-21 14:13:20


def insight(
    status: Status = "open", severity: Severity = "warning", start_s: int = 0, length_s: int = 60, service: str = "cart"
) -> Insight:
    window = Window(start_ms=START_MS + start_s * 1000, end_ms=START_MS + (start_s + length_s) * 1000)
    title = f"{service}: P95 latency 360 ms"
    return msgspec.structs.replace(
        INSIGHT, status=status, severity=severity, window=window, service=service, title=title, reason=""
    )


def test_a_line_has_start_severity_course_and_the_whole_id() -> None:
    assert head(insight()) == f"09-21 14:13:20  warning   open 60 s             {'1f' * 16}"
    assert head(insight("closed", "critical", length_s=720)) == (
        f"09-21 14:13:20  critical  closed after 12 min   {'1f' * 16}"
    )


def test_the_second_line_has_the_reason_of_an_end_and_controls_no_terminal() -> None:
    ended = msgspec.structs.replace(insight("closed"), reason="not seen again")
    assert body(ended) == "    prod  cart: P95 latency 360 ms (not seen again)"
    assert body(msgspec.structs.replace(insight(), title="\x1b[31mred\x9b")) == "    prod  \ufffd[31mred\ufffd"


def test_open_insights_are_shown_however_old_and_ended_ones_if_they_ended_lately() -> None:
    old, ended, late = insight(start_s=-90_000), insight("closed"), insight("closed", start_s=7_000)
    assert shown([old, ended, late], Wanted(), START_MS + 3_600_000) == [old, late]


def test_filters_apply_together_and_severity_is_a_lower_bound() -> None:
    every = [insight(severity=severity, service=name) for severity in ("info", "warning", "critical") for name in "ab"]
    found = shown(every, Wanted(severity="warning", service="a"), 0)
    assert [(i.severity, i.service) for i in found] == [("warning", "a"), ("critical", "a")]
    assert shown(every, Wanted(env="dev"), 0) == shown(every, Wanted(status="closed"), 0) == []


def test_wrong_filters_are_named_all_at_once() -> None:
    with pytest.raises(WrongUse, match=r"--kind is 'slow'; there are latency_spike, .*; --severity is 'bad'"):
        Wanted(kind="slow", severity="bad")


@pytest.mark.parametrize(
    ("text", "back_ms"), [("90s", 90_000), ("30m", 1_800_000), ("12h", 43_200_000), ("2d", 172_800_000)]
)
def test_since_is_a_number_with_a_unit(text: str, back_ms: int) -> None:
    assert since_ms(text, START_MS) == START_MS - back_ms


@pytest.mark.parametrize("text", ["", "h", "1", "1.5h", "-1h", "1 h", "\u0661h", "1w"])
def test_another_since_is_wrong_use(text: str) -> None:
    with pytest.raises(WrongUse, match="expected a number with s, m, h or d"):
        since_ms(text, START_MS)


def test_the_summary_names_the_worst_that_is_open() -> None:
    held = [insight(), insight("updated", "critical", 60, service="pay"), insight("closed", "critical", service="x")]
    assert summary(held) == "2 open (1 critical, 1 warning); worst: pay: P95 latency 360 ms"
    assert summary([insight("closed")]) == "no insight is open"
