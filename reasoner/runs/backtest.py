"""Backtest of sequence rules over recordings: what would have matched, when, and how far the other signals came."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobs.settings import Detection
from reasoner.recordings.read import BadLines, read
from reasoner.recordings.reshape import placed
from reasoner.runs.local_run import LocalRun
from reasoner.runs.replay import PARTITIONS, settings
from state_schemas.aggregates.rule_signals import (
    RecordSignalBatch,
    RuleClock,
    RuleEdge,
    RuleHit,
    RuleSignalBatch,
    ServiceEdge,
    Signal,
    SubjectSignal,
)
from state_schemas.contracts.insight import Insight
from udfs.event_time import WINDOW_MS
from udfs.rules.compiled import RuleIndex, rule_name
from udfs.rules.matching import in_order
from udfs.rules.windows import ordered_by_window, union

DAY_MS: Final = 24 * 3_600_000
Hit = tuple[Signal, RuleHit]


class Outcome(NamedTuple):
    """What one version of a rule would have done."""

    # `id@version`.
    rule: str
    # Its insights, by start; those that were retracted are left out.
    matches: tuple[Insight, ...]
    # By the name of the step: signals that fulfil it, and those that do in its order, with all edges of the recording.
    signals: dict[str, int]
    in_order: dict[str, int]
    # Length of the recording in ms.
    observed_ms: int

    @property
    def per_day(self) -> float:
        """Return the insights for a day of telemetry like this."""
        return len(self.matches) * DAY_MS / self.observed_ms if self.observed_ms else 0.0

    def as_json(self) -> dict[str, Any]:
        found = [{"start_ms": one.window.start_ms, "service": one.service, "title": one.title} for one in self.matches]
        return {
            "rule": self.rule,
            "insights": len(self.matches),
            "per_day": round(self.per_day, 3),
            "signals": self.signals,
            "in_order": self.in_order,
            "matches": found,
        }


def backtest(paths: Sequence[Path], rules: Path, bad: BadLines) -> list[Outcome]:
    """Run the recordings through the shipped graph with these rules; return an outcome for each version of a rule.

    Raises BadConfig where the rules have faults.
    """
    config = settings(Detection(emit_when="final", rules=rules, shipped_rules=False))
    run = LocalRun(config.graph(), taps=(RuleSignalBatch, RecordSignalBatch, RuleClock, RuleEdge))
    insights: dict[str, Insight] = {}
    signals: list[SubjectSignal] = []
    windows: set[int] = set()
    edges: dict[str, set[ServiceEdge]] = {}
    for out in run.run(placed(read(paths, bad), PARTITIONS)):
        if isinstance(out, Insight):
            insights[out.insight_id] = out
        elif isinstance(out, RuleSignalBatch):
            signals += (ordered_by_window(signal, WINDOW_MS) for signal in out.signals)
        elif isinstance(out, RecordSignalBatch):
            signals += out.signals
        elif isinstance(out, RuleClock):
            windows.update(out.windows)
        elif isinstance(out, RuleEdge):
            edges.setdefault(out.env, set()).add(out.edge)
    observed_ms = max(windows) - min(windows) if windows else 0
    assert config.rules is not None, "the settings name a file of rules"
    return list(_outcomes(config.rules, insights, signals, edges, observed_ms))


def _outcomes(
    index: RuleIndex,
    insights: dict[str, Insight],
    signals: Sequence[SubjectSignal],
    edges: dict[str, set[ServiceEdge]],
    observed_ms: int,
) -> Iterator[Outcome]:
    hits: dict[str, dict[tuple[str, str], list[Hit]]] = {}
    for found in union([tuple(signals)]):
        for hit in found.hits:
            hits.setdefault(hit.rule, {}).setdefault((found.env, found.subject), []).append((found.signal, hit))
    for key, compiled in index.rules.items():
        of_rule = hits.get(key, {})
        ordered = [in_order(compiled.plan, held, edges.get(env, ())) for (env, _), held in of_rule.items()]
        steps, name = compiled.rule.steps, rule_name(compiled.rule)
        matches = (one for one in insights.values() if one.subject == name and one.status != "retracted")
        yield Outcome(
            rule=name,
            matches=tuple(sorted(matches, key=lambda one: (one.window.start_ms, one.insight_id))),
            signals={
                step.name: len(
                    {signal.signal_id for held in of_rule.values() for signal, hit in held if hit.step == number}
                )
                for number, step in enumerate(steps)
            },
            in_order={
                step.name: len(frozenset[str]().union(*(found[number] for found in ordered)))
                for number, step in enumerate(steps)
            },
            observed_ms=observed_ms,
        )
