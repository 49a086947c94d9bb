"""Insights as people read them: which are shown, and their lines."""

import msgspec
import pytest

from reasoner.clients.insight_topic import Hidden
from reasoner.errors import WrongUse
from reasoner.runs.insight_view import (
    Wanted,
    body,
    head,
    hidden_text,
    links,
    shown,
    stays_hidden,
    summary,
)
from state_schemas.contracts.insight import Evidence, Insight, Severity, Status, TraceExemplar, Window
from state_schemas.contracts.settings import Links
from tests.support.outputs import INSIGHT

START_MS = 1_790_000_000_000  # 2026-09-21 14:13:20
TRACE = TraceExemplar(role="slowest", trace_id="ab" * 16, latency_ms=9.0, host="h", operation="o")


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


def test_the_summary_names_the_worst_that_is_open() -> None:
    held = [insight(), insight("updated", "critical", 60, service="pay"), insight("closed", "critical", service="x")]
    assert summary(held) == "2 open (1 critical, 1 warning); worst: pay: P95 latency 360 ms"
    assert summary([insight("closed")]) == "no insight is open"


def test_links_lead_to_the_trace_and_the_logs_and_texts_of_telemetry_cannot_leave_their_place() -> None:
    templates = Links(
        trace="https://g/trace/{trace_id}?env={env}",
        logs='https://g/logs?q={"s":"{service}"}&from={from_ms}&to={to_ms}',
    )
    odd = msgspec.structs.replace(insight(service="a&b={env}"), evidence=Evidence(traces=(TRACE,)))
    assert links(odd, templates) == [
        f"https://g/trace/{TRACE.trace_id}?env=prod",
        f'https://g/logs?q={{"s":"a%26b%3D%7Benv%7D"}}&from={START_MS}&to={START_MS + 60_000}',
    ]
    assert links(msgspec.structs.replace(odd, service="", evidence=Evidence()), templates) == []
    assert links(odd, Links()) == []


def test_a_message_is_hidden_for_long_after_an_interval_of_checkpoints() -> None:
    found = Hidden(2, START_MS)
    assert not stays_hidden(found, START_MS + 40_000, 30_000)
    assert stays_hidden(found, START_MS + 46_000, 30_000)
    assert not stays_hidden(found, START_MS + 70_000, 60_000), "a longer interval is no fault"
    assert stays_hidden(Hidden(2, None), START_MS, 30_000)
    text = hidden_text("insight_out", found)
    assert text.startswith("messages of insight_out are not committed since 09-21 14:13:20 (2 offsets)")
    assert "`reasoner transactions abort --config FILE`" in text
