"""Signals of records: what of them is shown, by what they are known, and under which names they go on."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from operators.ingest.fold import FOLDS, FoldConfig
from operators.ingest.name_admission import PreAggregateConfig
from operators.ingest.pre_aggregate import LogPreAggregate, TracePreAggregate
from reasoner.traffic.otlp import attributes as otlp_attributes
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.rule_signals import RecordSignalBatch, SubjectSignal
from state_schemas.contracts.rules import Rule
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from tests.support.stories import Story
from tests.support.traffic import START_MS, Sent, messages, request_of_logs, request_of_spans
from udfs.otlp.decoder import NO_ATTRIBUTES, AskedAttributes
from udfs.otlp.resource import NAME_CHARS_MAX, UNKNOWN_HOST, VALUE_CHARS_MAX
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.subjects import bucket_of

NAMELESS = Resource("prod", "cart", UNKNOWN_HOST)
AT = KafkaPosition("logs_raw", 1, 7, START_MS + 5_000)


def index_of(by: str, step: Mapping[str, object]) -> RuleIndex:
    document = {"id": "r", "version": 1, "title": "t", "by": by, "within": "1m", "steps": [{"name": "a", **step}]}
    index, faults = compile_rules([Rule.model_validate(document)])
    assert not faults
    return index


def record(body: str, **attributes: str) -> LogRecord:
    resource = Resource("prod", "cart", "host-1")
    return LogRecord(resource, START_MS * 10**6, 17, "", body, "", tuple(attributes.items()), "ab" * 16)


def folded(index: RuleIndex, *records: LogRecord) -> FoldedMessage:
    message = FOLDS["logs"](FoldConfig(rules=index)).fold(request_of_logs(records), AT).message
    assert message is not None
    return message


def test_the_signal_of_a_log_record_shows_its_template_and_never_the_line() -> None:
    message = folded(
        index_of("service", {"log": {"body|contains": "alice"}}), record("user alice@example.org has 3 items")
    )
    (found,) = message.record_signals
    assert found.signal.title == "user <email> has <number> items"
    assert (found.subject, found.signal.trace_ids, found.signal.ranges) == ("service|cart", ("ab" * 16,), (AT.range,))


def test_a_rule_can_follow_the_value_of_an_attribute() -> None:
    index = index_of("attribute:order", {"log": {"body|contains": "x"}, "count": ">= 2", "distinct": "attributes.step"})
    message = folded(index, record("x", order="o-1", step="a"), record("x"), record("x", order="o-1", step="b"))
    assert [(found.subject, found.hits[0].value) for found in message.record_signals] == [
        ("attribute:order|o-1", "a"),
        ("attribute:order|o-1", "b"),
    ]


def test_records_of_too_many_services_are_signals_of_other() -> None:
    index = index_of("operation", {"span": {"duration_ms|gte": 0}})
    sent = [message for message in messages(Story(windows=1, services=2)) if message.spans]
    machine = TracePreAggregate(PreAggregateConfig(services_max=1), has_rules=True)
    state, found = machine.initial("trace_events|0"), list[SubjectSignal]()
    for message in sent:
        event = FOLDS["traces"](FoldConfig(rules=index)).fold(request_of_spans(message.spans), message.at).message
        assert event is not None
        machine.on_event(state, event, 0)
    for out in machine.on_timer(state, 1).outputs:
        if isinstance(out, RecordSignalBatch):
            assert {(signal.env, signal.bucket) for signal in out.signals} == {(out.env, out.bucket)}
            found += out.signals
    services = {signal.signal.service for signal in found}
    assert services == {"service-0", "other"}
    for signal in found:
        assert signal.subject.startswith(f"operation|{signal.signal.service}|")
        assert signal.bucket == bucket_of(signal.subject)


def test_without_rules_pre_aggregation_gives_no_signal() -> None:
    message = folded(index_of("service", {"log": {"body|contains": "x"}}), record("x"))
    machine = LogPreAggregate(PreAggregateConfig())
    state = machine.initial("logs_raw|1")
    machine.on_event(state, message, 0)
    assert RecordSignalBatch not in machine.gives
    assert not any(isinstance(out, RecordSignalBatch) for out in machine.on_timer(state, 1).outputs)


def spans_without_ids(sent: Sent) -> Sent:
    return sent._replace(spans=tuple(span._replace(number=0, trace=0) for span in sent.spans))


def test_spans_without_ids_are_signals_of_their_own() -> None:
    index = index_of("service", {"span": {"duration_ms|gte": 0}})
    (sent, *_) = (message for message in messages(Story(windows=2, services=1, rate=8)) if len(message.spans) > 2)
    folder = FOLDS["traces"](FoldConfig(rules=index))
    message = folder.fold(request_of_spans(spans_without_ids(sent).spans), sent.at).message
    assert message is not None
    ids = [found.signal.signal_id for found in message.record_signals]
    assert len(set(ids)) == len(sent.spans)
    assert all(signal_id.startswith("trace_events|") for signal_id in ids)
    by_trace = FOLDS["traces"](FoldConfig(rules=index_of("trace", {"span": {"duration_ms|gte": 0}})))
    other = by_trace.fold(request_of_spans(spans_without_ids(sent).spans), sent.at).message
    assert other is not None
    assert other.record_signals == (), "spans without a trace have none in common"


def span_with(**attributes: str) -> bytes:
    """Return a request of one span of a pod, with these attributes."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(otlp_attributes({"service.name": "cart", "k8s.pod.name": "cart-1"}))
    end_ns = AT.timestamp_ms * 10**6
    span = group.scope_spans.add().spans.add(name="GET /", start_time_unix_nano=end_ns, end_time_unix_nano=end_ns)
    span.attributes.extend(otlp_attributes(dict(attributes)))
    return bytes(request.SerializeToString())


def span_hits(index: RuleIndex, data: bytes) -> list[tuple[str, str]]:
    """Return subject and counted value of each hit of a message of spans."""
    message = FOLDS["traces"](FoldConfig(rules=index)).fold(data, AT).message
    assert message is not None
    return [(found.subject, hit.value) for found in message.record_signals for hit in found.hits]


def test_a_rule_of_spans_can_follow_an_attribute_and_count_the_values_of_another() -> None:
    step = {"span": {"service": "cart"}, "count": ">= 2", "distinct": "attributes.step"}
    index = index_of("attribute:order", step)
    assert span_hits(index, span_with(order="o-1", step="a", x="y")) == [("attribute:order|o-1", "a")]
    ((subject, value),) = span_hits(index, span_with(order="o" * 5_000, step="s" * 5_000))
    assert max(len(subject), len(value)) <= len("attribute:order|") + NAME_CHARS_MAX
    assert span_hits(index, span_with(step="a")) == [], "a span without the attribute has no subject"


def test_the_attributes_of_a_resource_are_fields_of_spans_and_of_log_records() -> None:
    field = {"resource.k8s.pod.name|startswith": "cart-"}
    step = {"span": field, "count": ">= 2", "distinct": "resource.k8s.pod.name"}
    assert span_hits(index_of("env", step), span_with()) == [("env|", "cart-1")]
    request = ExportLogsServiceRequest()
    for pod in ("cart-1", "shop-1"):
        group = request.resource_logs.add()
        group.resource.attributes.extend(otlp_attributes({"k8s.pod.name": pod}))
        group.scope_logs.add().log_records.add(time_unix_nano=START_MS * 10**6).body.string_value = pod
    index = index_of("env", {"log": field, "count": ">= 2", "distinct": "resource.k8s.pod.name"})
    message = FOLDS["logs"](FoldConfig(rules=index)).fold(request.SerializeToString(), AT).message
    assert message is not None
    assert [hit.value for found in message.record_signals for hit in found.hits] == ["cart-1"]


def test_a_span_counts_for_the_version_that_holds_at_its_end() -> None:
    def version(number: int, from_ms: int) -> Rule:
        document = {"id": "r", "version": number, "title": "t", "by": "env", "within": "1s"}
        effective = {"effective_from": datetime.fromtimestamp(from_ms / 1_000, UTC)} if from_ms else {}
        return Rule.model_validate({**document, **effective, "steps": [{"name": "a", "span": {"service": "cart"}}]})

    for from_ms, expected in ((AT.timestamp_ms, 2), (AT.timestamp_ms + 1, 1)):
        index, faults = compile_rules([version(1, 0), version(2, from_ms)])
        assert not faults
        message = FOLDS["traces"](FoldConfig(rules=index)).fold(span_with(), AT).message
        assert message is not None
        ((hit,),) = (found.hits for found in message.record_signals)
        assert hit.rule.startswith(f"r@{expected}#")


def test_without_a_rule_that_asks_for_it_no_attribute_is_kept() -> None:
    index = index_of("service", {"span": {"service": "cart", "status": "error"}})
    assert index.asked("span") == NO_ATTRIBUTES
    asking = index_of("attribute:a", {"span": {"resource.b|exists": True}, "count": ">= 2", "distinct": "attributes.c"})
    assert asking.asked("span") == AskedAttributes(("a", "c"), ("b",))
    assert asking.asked("log") == NO_ATTRIBUTES


def test_a_record_without_the_counted_value_does_not_count() -> None:
    index = index_of("env", {"log": {"body|contains": "x"}, "count": ">= 2", "distinct": "attributes.user"})
    message = folded(index, record("x", user="ann"), record("x"))
    assert [found.hits[0].value for found in message.record_signals] == ["ann"]


def test_hosts_without_a_name_are_not_one_host() -> None:
    found = folded(index_of("host", {"log": {"body": "x"}}), record("x"), replace(record("x"), resource=NAMELESS))
    assert [signal.subject for signal in found.record_signals] == ["host|host-1"]


def test_a_body_is_compared_up_to_a_limit() -> None:
    index = index_of("env", {"log": {"body|contains": "needle"}})
    assert not folded(index, record("x" * VALUE_CHARS_MAX + "needle")).record_signals
    assert len(folded(index, record("x" * (VALUE_CHARS_MAX - 6) + "needle")).record_signals) == 1


def test_the_title_of_a_span_is_short_and_one_line() -> None:
    request = ExportTraceServiceRequest.FromString(span_with())
    request.resource_spans[0].scope_spans[0].spans[0].name = "GET\n\x1b[31m" + "x" * 100_000
    message = (
        FOLDS["traces"](FoldConfig(rules=index_of("env", {"span": {"service": "cart"}})))
        .fold(request.SerializeToString(), AT)
        .message
    )
    assert message is not None
    (found,) = message.record_signals
    assert found.signal.title.startswith("GET  [31mxxx")
    assert found.signal.title.isprintable()
    assert len(found.signal.title) < 2 * NAME_CHARS_MAX
