"""The stages of sequence rules in tests, and the insights that are their signals."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from jobs.graph import stages
from operators.correlate.sequences import SequenceConfig
from operators.emission import EmitWhen
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.activity import Activity, ActivityWindow, EnvActivity
from state_schemas.aggregates.published_rules import PublishedRule
from state_schemas.aggregates.rule_signals import RuleSignal, RuleSignalBatch, Signal
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Kind, Status, TraceExemplar
from tests.support.driving import graph_config
from tests.support.rules import edge_row, rule_insight
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.document import read_rules
from udfs.rules.subjects import bucket_of

DELAY_MS = 120_000  # of signals, beside the lateness of the stories
TRACE = "ab" * 16
SLOW_THEN_FAILING = """
id: slow-then-failing
version: 1
title: slow, then failing
by: service
within: 10m
steps:
  - {name: slow, insight: {kind: latency_spike}}
  - {name: failing, insight: {kind: error_ratio}, within: 2m}
"""
SLOW_AND_SILENT = """
id: slow-and-no-errors
version: 1
title: slow without errors
by: service
within: 10m
severity: critical
steps:
  - {name: slow, insight: {kind: latency_spike}}
  - {name: errors, insight: {kind: error_ratio}, not_within: 1m}
"""


@dataclass
class Rules:
    """The stages of rules, and all that they have emitted. Times are in seconds after START_MS."""

    text: str
    emit_when: EmitWhen = "early"
    # When the rules are removed.
    removed_s: int | None = None
    emitted: list[Insight] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = read_rules("rules", self.text.encode())
        index, faults = compile_rules(found.rules)
        assert not found.faults
        assert not faults
        self.index = index if self.removed_s is None else RuleIndex.of(map(self._removed, index.published.values()))
        config = graph_config(self.emit_when)
        rules = SequenceConfig(self.index, DELAY_MS)
        config = replace(config, rules=rules, fold=replace(config.fold, rules=self.index))
        self.stages = [stage for stage in stages(config) if stage.uid in ("rule-signals", "sequences")]
        self.graph = LocalGraph(self.stages)

    def replace_machines(self) -> None:
        """Go on with the states of a graph that has other rules, as after an upgrade."""
        for runner, stage in zip(self.graph._runners.values(), self.stages, strict=True):
            runner.stage = stage
        self.graph.restart()

    def _removed(self, rule: PublishedRule) -> PublishedRule:
        assert self.removed_s is not None
        gone_ms = START_MS + self.removed_s * 1000
        ended = (msgspec.structs.replace(version, until_ms=gone_ms, removed_ms=gone_ms) for version in rule.versions)
        return msgspec.structs.replace(rule, versions=tuple(ended))

    def signal(self, at_s: int, kind: Kind, service: str = "cart", status: Status = "open", **changes: Any) -> None:
        self.graph.feed([insight(at_s, kind, service, status, **changes)])

    def line(self, at_s: float, body: str, service: str = "cart") -> None:
        """Log a line of a service."""
        at_ms, subject = START_MS + int(at_s * 1000), f"service|{service}"
        hits = tuple(sorted(hit for _, hit in self.index.hits("log", {"body": body, "service": service}, at_ms)))
        signal = Signal(at_ms, f"{at_ms}", 0, "log", service, body)
        bucket = bucket_of(subject)
        found = RuleSignal("prod", bucket, subject, signal, hits)
        self.graph.feed([RuleSignalBatch.of("prod", bucket, [found])])

    def calls(self, at_s: int, caller: str, callee: str) -> None:
        """Let a service have called another in the window of a time."""
        self.graph.feed([edge_row(START_MS + at_s * 1000, caller, callee)])

    def active(self, until_s: int) -> None:
        """Let the environment have telemetry in each window up to a time."""
        starts = range(START_MS, START_MS + until_s * 1000, WINDOW_MS)
        seen = (Activity("traces", "other", 1),)
        self.graph.feed([EnvActivity("prod", tuple(ActivityWindow(start_ms, seen, ()) for start_ms in starts))])

    def until(self, at_s: int) -> list[tuple[str, str]]:
        """Advance event time; return kind and status of what is emitted."""
        return self._emitted(self.graph.advance(START_MS + at_s * 1000))

    def finish(self) -> list[tuple[str, str]]:
        return self._emitted(self.graph.finish())

    def _emitted(self, outputs: list[Any]) -> list[tuple[str, str]]:
        new = [output for output in outputs if isinstance(output, Insight)]
        self.emitted += new
        return [(output.kind, output.status) for output in new]


def insight(at_s: int, kind: Kind, service: str = "cart", status: Status = "open", **changes: Any) -> Insight:
    evidence = Evidence(
        hosts=(Contribution("web-1", 0.7, 0.5, 7), Contribution("web-2", 0.3, 0.5, 3)),
        traces=(TraceExemplar("slowest", TRACE, 9.0, "web-1", "GET /"),),
    )
    found = rule_insight(kind, service, START_MS + at_s * 1000, status, evidence)
    return msgspec.structs.replace(found, **{"revision": int(status != "open"), **changes})
