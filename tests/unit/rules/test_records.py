"""Signals of records: what of them is shown, by what they are known, and under which names they go on."""

from operators.ingest.fold import FOLDS, FoldConfig
from operators.ingest.name_admission import PreAggregateConfig
from operators.ingest.pre_aggregate import LogPreAggregate, TracePreAggregate
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.rule_signals import RecordSignal
from state_schemas.contracts.rules import Rule
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from tests.support.stories import Story
from tests.support.traffic import START_MS, Sent, messages, request_of_logs, request_of_spans
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.subjects import bucket_of

AT = KafkaPosition("logs_raw", 1, 7, START_MS + 5_000)


def index_of(by: str, step: dict[str, object]) -> RuleIndex:
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
    state, found = machine.initial("trace_events|0"), []
    for message in sent:
        event = FOLDS["traces"](FoldConfig(rules=index)).fold(request_of_spans(message.spans), message.at).message
        assert event is not None
        found += [out for out in machine.on_event(state, event, 0).outputs if isinstance(out, RecordSignal)]
    services = {signal.signal.service for signal in found}
    assert services == {"service-0", "other"}
    for signal in found:
        assert signal.subject.startswith(f"operation|{signal.signal.service}|")
        assert signal.bucket == bucket_of(signal.subject)


def test_without_rules_pre_aggregation_gives_no_signal() -> None:
    message = folded(index_of("service", {"log": {"body|contains": "x"}}), record("x"))
    machine = LogPreAggregate(PreAggregateConfig())
    assert RecordSignal not in machine.gives
    assert machine.on_event(machine.initial("logs_raw|1"), message, 0).outputs == ()


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
