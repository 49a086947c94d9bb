"""Scores of sequence rules on recorded faults."""

from msgspec.structs import replace

from reasoner.evaluate.nezha import Fault, RecordedInterval, Truth
from reasoner.evaluate.rules import score
from reasoner.runs.backtest import Outcome
from state_schemas.contracts.insight import Insight, TimelineStep, Window
from tests.support.outputs import INSIGHT

TRUTH = Truth(
    (Fault("D1", "cart", "return", 1_000_000),),
    (RecordedInterval(900_000, 1_120_000, ("D1",)), RecordedInterval(0, 500_000, ())),
    frozenset({("web", "cart"), ("web", "ads")}),
)


def match(at_ms: int, *services: str) -> Insight:
    """Return a match of a whole environment with a step at each service."""
    timeline = tuple(TimelineStep(f"step-{name}", at_ms, 0, 1, name, name) for name in services)
    evidence = replace(INSIGHT.evidence, timeline=timeline)
    return replace(INSIGHT, kind="sequence_match", service="", window=Window(at_ms, at_ms + 1), evidence=evidence)


def test_a_match_is_right_near_a_fault_with_a_step_on_a_path_of_calls_with_its_service() -> None:
    matches = (match(1_010_000, "ads", "web"), match(1_010_000, "ads"), match(100_000, "cart"))
    outcomes = [Outcome("a@1", matches, {}, {}, 0), Outcome("b@1", (), {"x": 7, "y": 2}, {"x": 7, "y": 0}, 0)]
    result = score(TRUTH, outcomes)
    assert result.scores == {"rules": 2, "matches": 3, "right": 1, "false_per_hour": 10, "hours": 0.2}
    assert [row.get("why_false") for row in result.detail[:3]] == [
        "",
        "on no call path with the faulty service",
        "normal interval",
    ]
    assert result.detail[0]["faults"] == "D1:return@cart"
    assert result.detail[3] == {"rule": "b@1", "matches": 0, "signals_and_in_order": "x 7, 7; y 2, 0"}
