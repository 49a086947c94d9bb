"""Sequence rules of the stories, and the insights that are their signals."""

from collections.abc import Iterator
from typing import Any, Final

from operators.correlate.signals import RuleSignals
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.rule_signals import RuleClock, RuleEdge, RuleSignalBatch
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Kind, Status, TraceExemplar, Window
from state_schemas.contracts.tables import EdgeRow
from tests.support.traffic import WINDOW_MS, Sent, pre_aggregated
from udfs.insights.ids import insight_id
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.document import read_rules

SLOW_MS: Final = 60.0  # latency of a span that makes its window slow
_RULES: Final = b"""
id: slow-then-failing
version: 1
title: slow, then failing
by: service
within: 2m
suppress_ms: 30000
steps:
  - {name: slow, insight: {kind: latency_spike}}
  - {name: failing, insight: {kind: error_ratio}, within: 1m}
---
id: failing-for-long
version: 1
title: three windows with errors
by: host
within: 1m
suppress_ms: 20000
steps:
  - {name: failing, insight: {kind: error_ratio}, count: ">= 3"}
---
id: slow-and-no-errors
version: 1
title: slow without errors
by: service
within: 3m
suppress_ms: 30000
steps:
  - {name: slow, insight: {kind: latency_spike}}
  - {name: failing, insight: {kind: error_ratio}, not_within: 20s}
---
id: both
version: 1
title: both, and then slow again
by: trace
within: 3m
suppress_ms: 0
steps:
  - {name: both, all_of: [{insight: {kind: latency_spike}}, {insight: {kind: error_ratio}}]}
  - {name: more, insight: {kind: error_ratio}, optional: true}
  - {name: slow, any_of: [{insight: {kind: latency_spike}}, {insight: {kind: telemetry_gap}}]}
---
id: caller-fails
version: 1
title: slow, and then a caller fails
by: env
within: 2m
suppress_ms: 0
steps:
  - {name: slow, insight: {kind: latency_spike}}
  - {name: again, insight: {kind: latency_spike}, same_host: $slow, optional: true}
  - {name: failing, insight: {kind: error_ratio}, calls: $slow}
  - {name: slower, insight: {kind: latency_spike}, called_by: $failing, not_within: 10s}
"""


def rule_index() -> RuleIndex:
    found = read_rules("stories", _RULES)
    index, faults = compile_rules(found.rules)
    assert not found.faults
    assert not faults
    return index


INDEX: Final = rule_index()
DELAY_MS: Final = 60_000


def rule_events(sent: Sent) -> Iterator[Any]:
    """Yield the insights of a message and the activity of its environment: the events of `rule-signals`."""
    yield from (output for output in pre_aggregated(sent) if isinstance(output, EnvActivity))
    service, start_ms = sent.spans[0].service, sent.timestamp_ms - sent.timestamp_ms % WINDOW_MS - WINDOW_MS
    yield edge_row(start_ms, service, f"service-{sent.offset % 2}")
    found: dict[Kind, bool] = {
        "error_ratio": any(span.error for span in sent.spans),
        "latency_spike": any(span.latency_ms > SLOW_MS for span in sent.spans),
    }
    for kind, is_found in found.items():
        if is_found:
            # One in eleven windows is withdrawn by a later message of the window, or an earlier one that comes late.
            is_withdrawn = sent.offset % 2 == 1 and start_ms // WINDOW_MS % 11 == 0
            yield rule_insight(kind, service, start_ms, "retracted" if is_withdrawn else "open", _evidence(start_ms))


def rule_signals(sent: Sent) -> Iterator[RuleSignalBatch | RuleClock | RuleEdge]:
    """Yield the events of `sequences` in a message."""
    machine = RuleSignals(INDEX, DELAY_MS)
    for event in rule_events(sent):
        yield from machine.on_event(machine.initial("prod"), event, 0).outputs


def _evidence(start_ms: int) -> Evidence:
    return Evidence(
        hosts=(Contribution("host-0", 1.0, 1.0, 1),),
        traces=(TraceExemplar("slowest", f"{start_ms // (3 * WINDOW_MS):032x}", 1.0, "host-0", "GET /"),),
    )


def edge_row(at_ms: int, caller: str, callee: str, resolution_s: int = WINDOW_MS // 1000) -> EdgeRow:
    start_ms = at_ms - at_ms % (resolution_s * 1000)
    row = ("prod", "", caller, callee, resolution_s, start_ms, False, 1, 0)
    return EdgeRow(*row, *(1.0,) * 6, b"", "", "")


def rule_insight(kind: Kind, service: str, start_ms: int, status: Status, evidence: Evidence) -> Insight:
    return Insight(
        insight_id=insight_id(kind, "prod", service, "", start_ms),
        revision=int(status == "retracted"),
        status=status,
        kind=kind,
        env="prod",
        service=service,
        subject="",
        window=Window(start_ms, start_ms + WINDOW_MS),
        severity="warning",
        confidence=1.0,
        title=f"{service}: {kind}",
        measures={},
        evidence=evidence,
    )
