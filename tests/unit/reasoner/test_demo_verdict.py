"""The verdict of the demo: exactly the planted incident in both sinks is a success."""

from reasoner.runs.demo import DemoPlan, faults, plan
from reasoner.traffic.shop_graph import Incident
from state_schemas.contracts.insight import Evidence, Insight, Kind, Window

START_MS = 1_790_000_000_000
INCIDENT = Incident("latency", "cart", None, None, START_MS + 400_000, START_MS + 500_000, 5.0, ("checkout",))
DEMO = DemoPlan(1, START_MS, INCIDENT)


def _insight(service: str = "cart", kind: Kind = "latency_spike", start_ms: int = START_MS + 410_000) -> Insight:
    return Insight(
        insight_id="0" * 32,
        revision=0,
        status="closed",
        kind=kind,
        env="production",
        service=service,
        subject="",
        window=Window(start_ms=start_ms, end_ms=start_ms + 60_000),
        severity="warning",
        confidence=0.9,
        title=f"{service} is slow",
        measures={},
        evidence=Evidence(),
    )


def test_the_planted_incident_in_both_sinks_has_no_fault() -> None:
    found = [_insight(), _insight("checkout")]
    assert faults(DEMO, found, found) == []


def test_an_incident_that_was_not_found_is_a_fault() -> None:
    assert faults(DEMO, [], [])[0].startswith("not found: cart")


def test_an_insight_of_a_caller_is_not_the_incident_itself() -> None:
    found = [_insight("checkout")]
    assert faults(DEMO, found, found)[0].startswith("not found: cart")


def test_another_kind_at_the_service_is_not_the_incident_itself() -> None:
    found = [_insight(kind="error_ratio")]
    assert faults(DEMO, found, found)[0].startswith("not found: cart")


def test_an_insight_of_an_unaffected_service_is_a_fault() -> None:
    found = [_insight(), _insight("shipping")]
    assert faults(DEMO, found, found) == ["not planted: shipping is slow"]


def test_an_insight_of_the_right_service_at_another_time_is_a_fault() -> None:
    found = [_insight(), _insight(start_ms=START_MS)]
    assert faults(DEMO, found, found) == ["not planted: cart is slow"]


def test_sinks_that_differ_are_a_fault() -> None:
    assert "not the same" in faults(DEMO, [_insight()], [])[0]


def test_no_insight_is_right_only_when_nothing_was_planted() -> None:
    quiet = DemoPlan(1, START_MS, None)
    assert faults(quiet, [], []) == []
    assert faults(quiet, [_insight()], [_insight()]) == ["not planted: cart is slow"]


def test_the_seed_alone_decides_what_is_planted() -> None:
    assert plan(3, True, START_MS) == plan(3, True, START_MS)
    assert plan(3, True, START_MS).incident != plan(4, True, START_MS).incident
    assert plan(3, False, START_MS).incident is None
