"""The generated shop: equal for equal seeds, stationary without an incident, with exactly the planted incident."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.recordings import otlp_json
from reasoner.recordings.message import Message
from reasoner.recordings.read import times_ns
from reasoner.traffic import shop
from reasoner.traffic.shop_graph import HOSTS, SHOP, Incident, plan_incident
from udfs.otlp.decoder import SpanDecoder

START_MS = 1_700_000_000_000
DURATION_MS = 120_000


@dataclass(frozen=True)
class Seen:
    service: str
    host: str
    span: Span
    sent_ms: int

    @property
    def duration_ms(self) -> float:
        return (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e6

    @property
    def start_ms(self) -> float:
        return self.span.start_time_unix_nano / 1e6


@cache
def quiet(seed: int = 7, duration_ms: int = DURATION_MS) -> tuple[Message, ...]:
    return tuple(shop.messages(seed, START_MS, duration_ms, None))


@cache
def quiet_spans() -> tuple[Seen, ...]:
    return tuple(spans(quiet()))


def spans(messages: tuple[Message, ...]) -> Iterator[Seen]:
    for message in messages:
        if message.topic_kind != "traces":
            continue
        for resource in ExportTraceServiceRequest.FromString(message.value).resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                yield Seen(about["service.name"], about["host.name"], span, message.timestamp_ms)


@cache
def quiet_by_id() -> dict[tuple[bytes, bytes], Seen]:
    return {(s.span.trace_id, s.span.span_id): s for s in quiet_spans()}


def servers(seen: tuple[Seen, ...]) -> list[Seen]:
    return [s for s in seen if s.span.kind == Span.SPAN_KIND_SERVER]


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others() -> None:
    again = tuple(shop.messages(7, START_MS, 20_000, None))

    assert again == quiet(7, 20_000)
    assert again != quiet(8, 20_000)


def test_messages_come_in_send_order_one_to_five_a_second_and_none_before_its_events() -> None:
    times_ms = [message.timestamp_ms for message in quiet()]

    assert times_ms == sorted(times_ms)
    assert 1 <= len(times_ms) / (DURATION_MS / 1000) <= 5
    for message in quiet():
        events_ms = [t / 1e6 for t in times_ns(message.topic_kind, message.value, SpanDecoder())]
        assert max(events_ms) <= message.timestamp_ms
        assert message.timestamp_ms - min(events_ms) <= 1_045


def test_hand_made_wire_bytes_hold_nothing_that_the_schema_does_not_know() -> None:
    """A wrong tag or length would give unknown fields or move a value; encoding again detects both."""
    for message in quiet()[:40]:
        request = otlp_json.parse(message.topic_kind, message.value)
        assert len(otlp_json.parse(message.topic_kind, otlp_json.dumps(request)).SerializeToString()) == len(
            message.value
        )


def test_traces_are_trees_of_real_calls() -> None:
    """A CLIENT span has one SERVER child within its time, in another service; other parents are on the same host."""
    by_id = quiet_by_id()
    assert len(by_id) == len(quiet_spans())
    below: dict[tuple[bytes, bytes], list[Seen]] = defaultdict(list)
    for seen in quiet_spans():
        if not seen.span.parent_span_id:
            assert seen.service == "frontend"
            assert seen.span.kind == Span.SPAN_KIND_SERVER
            continue
        parent = by_id[seen.span.trace_id, seen.span.parent_span_id]
        below[parent.span.trace_id, parent.span.span_id].append(seen)
        assert parent.span.start_time_unix_nano <= seen.span.start_time_unix_nano
        assert seen.span.end_time_unix_nano <= parent.span.end_time_unix_nano
        crosses = seen.span.kind == Span.SPAN_KIND_SERVER
        assert (parent.span.kind == Span.SPAN_KIND_CLIENT) == crosses == (parent.host != seen.host)
    for key, seen in by_id.items():
        if seen.span.kind == Span.SPAN_KIND_CLIENT:
            assert len(below[key]) == 1


@given(st.integers(0, 10**9), st.integers(334_000, 3_600_000))
def test_a_planned_incident_is_within_its_limits(seed: int, duration_ms: int) -> None:
    incident = plan_incident(seed, START_MS, duration_ms)

    assert incident is not None
    assert incident == plan_incident(seed, START_MS, duration_ms)
    assert incident.start_ms >= START_MS + 0.55 * duration_ms
    assert 90_000 <= incident.end_ms - incident.start_ms <= 180_000
    assert incident.end_ms <= START_MS + duration_ms - 60_000
    assert 0.1 <= incident.factor <= 0.4 if incident.kind == "errors" else 2.5 <= incident.factor <= 10
    assert (incident.host is not None) == (incident.kind == "latency_host")
    assert (incident.operation is not None) == (incident.kind == "latency_operation")
    assert incident.service not in incident.affected
    assert set(incident.affected) <= set(SHOP)
    assert "frontend" in (incident.service, *incident.affected) or incident.kind == "errors"


def test_an_interval_too_short_for_an_incident_has_none() -> None:
    assert plan_incident(1, START_MS, 333_000) is None


PLANTED = Incident(
    "latency", "payment", None, None, START_MS + 40_000, START_MS + 90_000, 4.0, ("checkout", "frontend")
)


@cache
def with_planted(incident: Incident) -> tuple[Message, ...]:
    return tuple(shop.messages(7, START_MS, DURATION_MS, incident))


@pytest.mark.parametrize(
    "incident",
    [
        PLANTED,
        replace(PLANTED, kind="latency_host", host=HOSTS["payment"][1]),
        replace(PLANTED, kind="latency_operation", operation="Methods"),
    ],
    ids=lambda incident: incident.kind,
)
def test_exactly_the_planted_spans_last_factor_times_as_long(incident: Incident) -> None:
    before = {s.span.span_id: s for s in servers(quiet_spans()) if s.service == "payment"}
    after = {s.span.span_id: s for s in servers(tuple(spans(with_planted(incident)))) if s.service == "payment"}

    assert before.keys() == after.keys()
    for key, seen in after.items():
        operation = seen.span.name.rpartition("/")[2]
        hit = incident.start_ms <= seen.start_ms < incident.end_ms
        hit &= incident.host in (None, seen.host) and incident.operation in (None, operation)
        assert seen.duration_ms == pytest.approx(before[key].duration_ms * (incident.factor if hit else 1), abs=1e-4)


def test_callers_that_wait_get_slower_and_the_others_do_not() -> None:
    def during(messages: tuple[Seen, ...]) -> dict[str, list[Seen]]:
        found: dict[str, list[Seen]] = defaultdict(list)
        for seen in servers(messages):
            if PLANTED.start_ms <= seen.start_ms < PLANTED.end_ms - 5_000:
                found[seen.service].append(seen)
        return found

    quiet_now, slow_now = during(quiet_spans()), during(tuple(spans(with_planted(PLANTED))))
    slower = {
        s
        for s in SHOP
        if np.mean([x.duration_ms for x in slow_now[s]]) > 1.1 * np.mean([x.duration_ms for x in quiet_now[s]])
    }

    assert slower == {PLANTED.service, *PLANTED.affected}


def test_an_error_incident_fails_its_share_and_changes_no_duration() -> None:
    incident = replace(PLANTED, kind="errors", factor=0.3)
    payment = [s for s in servers(tuple(spans(with_planted(incident)))) if s.service == "payment"]
    inside = [s.span.status.code == 2 for s in payment if incident.start_ms <= s.start_ms < incident.end_ms]
    outside = [s.span.status.code == 2 for s in payment if not incident.start_ms <= s.start_ms < incident.end_ms]

    assert np.mean(inside) == pytest.approx(0.3, abs=0.06)
    assert np.mean(outside) < 0.02
    durations = {s.span.span_id: s.duration_ms for s in quiet_spans()}
    assert all(s.duration_ms == durations[s.span.span_id] for s in payment)


@pytest.mark.parametrize("seed", range(12))
def test_affected_are_the_services_with_a_span_above_a_slow_one(seed: int) -> None:
    """The expected services come from the traces and not from the call graph."""
    incident = plan_incident(seed, START_MS, 720_000)
    assert incident is not None
    above = set()
    for seen in servers(quiet_spans()):
        operation = seen.span.name.rpartition("shop." + seen.service + "/")[2]
        if seen.service != incident.service or incident.operation not in (None, operation):
            continue
        while seen.span.parent_span_id:
            seen = quiet_by_id()[seen.span.trace_id, seen.span.parent_span_id]
            above.add(seen.service)
    above -= {incident.service}

    assert set(incident.affected) <= above
    if incident.kind != "errors":  # a failure does not propagate to a caller for which the call is optional
        assert set(incident.affected) == above


def test_failures_of_an_optional_callee_affect_no_caller() -> None:
    planned = (plan_incident(seed, START_MS, 720_000) for seed in range(1_000))
    incident = next(i for i in planned if i and (i.kind, i.service) == ("errors", "recommendation"))
    here = replace(incident, start_ms=PLANTED.start_ms, end_ms=PLANTED.end_ms)
    failed = {s.span.span_id for s in servers(tuple(spans(with_planted(here)))) if s.span.status.code == 2}
    failed -= {s.span.span_id for s in servers(quiet_spans()) if s.span.status.code == 2}

    assert incident.affected == ()
    assert {s.service for s in quiet_spans() if s.span.span_id in failed} == {"recommendation"}


def test_nothing_changes_before_the_incident() -> None:
    before = [m for m in quiet() if m.timestamp_ms < PLANTED.start_ms]

    assert [m for m in with_planted(PLANTED) if m.timestamp_ms < PLANTED.start_ms] == before
    assert len(before) > 100
