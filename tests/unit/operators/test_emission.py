"""Insights that violate their contract."""

import msgspec

from operators.emission import checked
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Window, from_json, to_json

VALID = Insight(
    insight_id="0" * 32,
    revision=0,
    status="open",
    kind="latency_spike",
    env="prod",
    service="cart",
    subject="",
    window=Window(start_ms=0, end_ms=10_000),
    severity="warning",
    confidence=0.9,
    title="cart: P95 latency 360 ms",
    measures={"latency_ms_p95": 360.0},
    evidence=Evidence(hosts=(Contribution("cart-1", 1.0, 0.5, 12),)),
)


def test_an_insight_with_a_share_over_one_is_a_dead_letter_and_the_others_go_on() -> None:
    evidence = Evidence(hosts=(Contribution("cart-1", 1.00004, 0.5, 12),))
    broken = msgspec.structs.replace(VALID, evidence=evidence, revision=3)
    valid, rejected = checked([VALID, broken])
    assert valid == [VALID]
    (letter,) = rejected
    assert (letter.reason, letter.records, letter.timestamp_ms, letter.payload) == ("invalid_insight", 1, 10_000, b"")
    assert letter.detail == f"latency_spike {'0' * 32}:3: Expected `float` <= 1.0 - at `$.evidence.hosts[0].share`"


def test_an_insight_is_read_back_as_it_was_written() -> None:
    assert from_json(to_json(VALID)) == VALID
