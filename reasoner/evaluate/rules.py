"""Evaluation of sequence rules on the faults that the Nezha authors recorded: which matches are right.

A match is right where an insight of its time and service would be (`evaluate nezha`): near an injected fault, with a
step at a service on a call path with the faulty one. All matches of normal intervals are false.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from reasoner.evaluate.nezha import Truth, days_of, false_reason, truth_of
from reasoner.evaluate.result import Result
from reasoner.recordings.read import BadLines
from reasoner.runs.backtest import Outcome, backtest
from state_schemas.contracts.insight import Insight

__all__ = ["evaluate", "score"]


def evaluate(data: Path, rules: Path) -> Result:
    """Return the scores of rules over all days of the folder, in the order of time."""
    return score(truth_of(data), backtest(days_of(data), rules, BadLines()))


def score(truth: Truth, outcomes: list[Outcome]) -> Result:
    """Return how many matches there are, how many are right, and how many an hour are false; a row for each match.

    A rule without a match has a row too: the signals of its steps, and those in their order.
    """
    matches = [match for outcome in outcomes for match in outcome.matches]
    false = sum(bool(_why_false(truth, match)) for match in matches)
    hours = sum(interval.end_ms - interval.start_ms for interval in truth.intervals) / 3_600_000
    scores = {
        "rules": float(len(outcomes)),
        "matches": float(len(matches)),
        "right": float(len(matches) - false),
        "false_per_hour": round(false / hours, 3),
        "hours": round(hours, 3),
    }
    return Result("rules", "as recorded", scores, [row for outcome in outcomes for row in _rows(truth, outcome)])


def _rows(truth: Truth, outcome: Outcome) -> Iterator[dict[str, Any]]:
    if not outcome.matches:
        steps = (f"{name} {count}, {outcome.in_order[name]}" for name, count in outcome.signals.items())
        yield {"rule": outcome.rule, "matches": 0, "signals_and_in_order": "; ".join(steps)}
    for match in outcome.matches:
        near = [
            fault
            for interval in truth.intervals
            if interval.start_ms <= match.window.start_ms <= interval.end_ms
            for fault in truth.faults
            if fault.id in interval.faults
        ]
        yield {
            "rule": outcome.rule,
            "at_ms": match.window.start_ms,
            "says": match.title,
            "faults": " ".join(f"{fault.id}:{fault.kind}@{fault.service}" for fault in near),
            "why_false": _why_false(truth, match),
        }


def _why_false(truth: Truth, match: Insight) -> str:
    """Return why a match is a false alarm, "" if one of its steps is right."""
    services = dict.fromkeys(step.service for step in match.evidence.timeline)
    reasons = [false_reason(truth, replace(match, service=service)) for service in services]
    return "" if "" in reasons else reasons[-1]
