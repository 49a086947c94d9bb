"""Laws of signals of raw records: whole columns give what each record by itself gives; what is too much is counted."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reasoner.traffic.otlp import attributes as otlp_attributes
from state_schemas.contracts.rules import Rule
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.spans import SPAN_KINDS, SpanColumns
from tests.support.conditions import conditions as conditions_on
from tests.support.otlp_forms import otlp_json
from tests.support.stories import Story, busy, stories
from tests.support.traffic import columns, messages
from udfs.otlp.decoder import SpanDecoder
from udfs.rules import span_tests
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.conditions import STATUSES, compile_conditions
from udfs.rules.records import SIGNALS_MAX
from udfs.rules.spans import SpanRules
from udfs.rules.subjects import bucket_of

AT = KafkaPosition("trace_events", 3, 41, 1_700_000_400_000)
NS_PER_MS = 1_000_000

conditions = st.fixed_dictionaries(
    {},
    optional={
        "service": st.sampled_from(("service-0", "SERVICE-1", "service-*", "absent")),
        "name|startswith": st.sampled_from(("GET", "get /", "x")),
        "kind": st.sampled_from(SPAN_KINDS),
        "status": st.sampled_from(STATUSES),
        "duration_ms|gte": st.sampled_from((5, 20.5, 60)),
        "duration_ms|lt": st.sampled_from((30, 100)),
        "host|fieldref": st.just("service"),
        "version|exists": st.booleans(),
        "name|fieldref": st.just("service"),
        "service|neq": st.sampled_from(("service-0", "absent")),
        "name|startswith|neq": st.sampled_from(("GET", "x")),
        "kind|neq": st.sampled_from(SPAN_KINDS),
        "status|neq": st.sampled_from(STATUSES),
        "duration_ms|gte|neq": st.sampled_from((5, 20.5, 60)),
    },
).filter(bool)


def index_of(found: list[dict[str, Any]], by: str, others: int = 0) -> RuleIndex:
    """Compile a rule for each of these conditions, and behind the first one as many others that no span fulfils."""
    listed = [
        *enumerate(found),
        *((len(found) + number, {"name|startswith": f"absent-{number}"}) for number in range(others)),
    ]
    documents = [
        {
            "id": f"r{number}",
            "version": 1,
            "title": "t",
            "by": by,
            "within": "1m",
            "steps": [{"name": "a", "span": span}],
        }
        for number, span in [listed[0], *listed[len(found) :], *listed[1 : len(found)]]
    ]
    index, faults = compile_rules(map(Rule.model_validate, documents))
    assert not faults
    return index


def fields_of(spans: SpanColumns, row: int) -> dict[str, Any]:
    resource = spans.resources[spans.resource[row]]
    own = {
        "name": spans.names[spans.name[row]],
        "kind": SPAN_KINDS[spans.kind[row]],
        "status": STATUSES[int(spans.error[row])],
        "duration_ms": float(spans.end_ns[row] - spans.start_ns[row]) / NS_PER_MS,
    }
    texts = {name: getattr(resource, name) for name in ("env", "service", "host", "version", "namespace", "site_id")}
    return {**{name: text for name, text in texts.items() if text}, **own}


@given(
    story=stories(),
    found=st.lists(conditions, min_size=1, max_size=3),
    by=st.sampled_from(("service", "host", "operation", "trace", "env")),
    data=st.data(),
)
def test_whole_columns_give_what_each_span_by_itself_gives(
    story: Story, found: list[dict[str, Any]], by: str, data: st.DataObject
) -> None:
    index = index_of(found, by)
    rules = SpanRules(index, 24)
    for sent in messages(story)[:6]:
        spans = columns(sent.spans)
        ok = np.array([data.draw(st.booleans()) for _ in sent.spans])
        signals = rules.signals(spans, ok, AT)
        held = [
            row
            for row in range(len(sent.spans))
            if ok[row] and list(index.hits("span", fields_of(spans, row), int(spans.end_ns[row]) // NS_PER_MS))
        ]
        ids = [signal.signal.signal_id for signal in signals.signals]
        assert len(ids) == len(held)
        for row, signal_id in zip(held, ids, strict=True):
            assert signal_id.startswith(f"{spans.trace_id[row].tobytes().hex()}|{spans.span_id[row].tobytes().hex()}|")
        assert all(signal.bucket == bucket_of(signal.subject) for signal in signals.signals)


def test_signals_beyond_the_limit_of_a_message_are_counted() -> None:
    sent = messages(busy())[0]
    spans = columns([span._replace(number=number) for number in range(1, 400) for span in sent.spans[:3]])
    rules = SpanRules(index_of([{"duration_ms|gte": 0}], "service"), 24)
    found = rules.signals(spans, np.ones(len(spans.name), np.bool_), AT)
    assert len(found.signals) == SIGNALS_MAX
    assert found.beyond == len(spans.name) - SIGNALS_MAX > 0


class SentSpan(NamedTuple):
    """A span of a message, with values that conditions name, or others."""

    service: int
    pod: str
    name: str
    kind: int
    is_error: bool
    duration_ms: float
    attributes: dict[str, str | int]


sent_spans = st.builds(
    SentSpan,
    service=st.integers(0, 2),
    pod=st.sampled_from(("", "pod-1", "pod-2")),
    name=st.sampled_from(("GET /a", "GET /b", "", "/a")),
    kind=st.integers(0, 5),
    is_error=st.booleans(),
    duration_ms=st.sampled_from((0.0, 5.0, 10.0, 20.5, 20.6, 60.0)),
    attributes=st.dictionaries(
        st.sampled_from(("route", "code", "x")), st.sampled_from(("/a", "GET /a", "", 503, 7, "10.1.2.3", "nan"))
    ),
)


def request_of(sent: list[SentSpan]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for number, span in enumerate(sent, 1):
        group = request.resource_spans.add()
        resource: dict[str, str] = {"service.name": f"service-{span.service}", "k8s.pod.name": span.pod}
        group.resource.attributes.extend(otlp_attributes(dict(resource)))
        end_ns = AT.timestamp_ms * NS_PER_MS
        made = group.scope_spans.add().spans.add(
            trace_id=number.to_bytes(16), span_id=number.to_bytes(8), name=span.name
        )
        made.kind, made.status.code = span.kind, 2 * span.is_error
        made.start_time_unix_nano, made.end_time_unix_nano = end_ns - round(span.duration_ms * NS_PER_MS), end_ns
        made.attributes.extend(otlp_attributes(dict(span.attributes)))
    return request


def fields_of_sent(span: SentSpan) -> dict[str, Any]:
    texts = {"env": "default", "service": f"service-{span.service}", "name": span.name}
    texts |= {"host": span.pod or "unknown_host", "resource.k8s.pod.name": span.pod}
    own = {"kind": SPAN_KINDS[span.kind], "status": STATUSES[span.is_error], "duration_ms": span.duration_ms}
    return {**texts, **own, **{f"attributes.{name}": str(value) for name, value in span.attributes.items()}}


@given(
    sent=st.lists(sent_spans, min_size=4, max_size=8),
    found=st.lists(conditions_on("span"), min_size=8, max_size=8),
    others=st.sampled_from((0, 62, 63, 130)),
    is_json=st.booleans(),
)
@settings(deadline=None)
def test_a_message_gives_what_each_span_with_its_attributes_gives(
    sent: list[SentSpan], found: list[dict[str, Any]], others: int, is_json: bool
) -> None:
    index = index_of(found, "trace", others)
    request = request_of(sent)
    data = otlp_json(request) if is_json else request.SerializeToString()
    spans = SpanDecoder(asked=index.asked("span")).decode(data)
    assert isinstance(spans, SpanColumns)
    signals = SpanRules(index, 24).signals(spans, np.ones(len(sent), np.bool_), AT).signals
    plain = {f"r{number}": compile_conditions("span", [condition])[0] for number, condition in enumerate(found)}
    held = [{rule for rule in plain if plain[rule].hold(fields_of_sent(span))} for span in sent]
    by_subject = {signal.subject: {hit.rule.partition("@")[0] for hit in signal.hits} for signal in signals}
    assert by_subject == {f"trace|{number:032x}": rules for number, rules in enumerate(held, 1) if rules}


def test_a_resource_whose_memory_has_been_another_one_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_tests, "RESOURCES_HELD_MAX", 4)
    rules = SpanRules(index_of([{"service": "service-1"}], "service"), 24)
    for number in range(60):
        sent = [SentSpan(service, "", "GET /a", 2, False, 5.0, {}) for service in (number % 3, number % 2)]
        # A decoder of its own: the objects of its resources end with it.
        spans = SpanDecoder().decode(request_of(sent).SerializeToString())
        assert isinstance(spans, SpanColumns)
        found = rules.signals(spans, np.ones(2, np.bool_), AT).signals
        assert len(found) == [number % 3, number % 2].count(1)


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [
        ("duration_ms", 5, [5.0]),
        ("duration_ms", [5, 4.999999], [4.999999, 5.0]),
        ("duration_ms|gt", 5, [5.000001]),
        ("duration_ms|gte", [5, 60], [5.0, 5.000001]),
        ("duration_ms|lt", 5, [4.999999]),
        ("duration_ms|lte", [5, 1], [4.999999, 5.0]),
        ("duration_ms|exists", True, [4.999999, 5.0, 5.000001]),
        ("duration_ms|exists", False, []),
        ("duration_ms|fieldref", "duration_ms", [4.999999, 5.0, 5.000001]),
    ],
)
def test_a_duration_is_compared_to_the_nanosecond(key: str, value: Any, held: list[float]) -> None:
    durations_ms = [4.999999, 5.0, 5.000001]
    sent = [SentSpan(0, "", "GET /a", 2, False, duration_ms, {}) for duration_ms in durations_ms]
    index = index_of([{key: value}], "trace")
    spans = SpanDecoder().decode(request_of(sent).SerializeToString())
    assert isinstance(spans, SpanColumns)
    found = SpanRules(index, 24).signals(spans, np.ones(3, np.bool_), AT).signals
    assert [durations_ms[int(signal.subject[-1]) - 1] for signal in found] == held
