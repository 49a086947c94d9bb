"""Exceptions of spans (span events): which are counted, under which pattern and window; the same in each encoding."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from operators.ingest.fold import FoldConfig, Folded, LogFold, TraceFold
from state_schemas.aggregates.logs import LogTable, PatternCount
from state_schemas.telemetry.message import KafkaPosition
from tests.support.otlp_forms import otlp_json
from tests.support.span_exceptions import END_MS, JAVA, ExceptionAttributes, request_of, span_of
from tests.support.traffic import LATENESS_MS, MS, START_MS, TIMES, WINDOW_MS

AT = KafkaPosition("trace_events", 0, 7, START_MS)
FOLD = TraceFold(FoldConfig(TIMES))
PYTHON = """Traceback (most recent call last):
  File "/srv/shop/cart.py", line 88, in add
    raise Closed(cart)
shop.Closed: cart 4711 is closed"""
EXCEPTIONS = [
    pytest.param(
        {"exception.type": "java.lang.IllegalStateException", "exception.message": "cart 4711 is closed"}, id="message"
    ),
    pytest.param({"exception.type": "IllegalStateException", "exception.stacktrace": JAVA}, id="with its frames"),
    pytest.param({"exception.stacktrace": PYTHON}, id="a stack trace alone"),
]


def folded(*spans: Span) -> Folded:
    return FOLD.fold(request_of(spans).SerializeToString(), AT)


def windows(found: Folded) -> list[tuple[int, bool, LogTable]]:
    """Return all windows; they are of the one service of these tests."""
    assert found.message is not None
    assert {(lines.env, lines.service) for lines in found.message.logs} <= {("prod", "cart")}
    return [window for lines in found.message.logs for window in lines.windows]


def counted(found: Folded) -> list[PatternCount]:
    return [pattern for _, _, table in windows(found) for pattern in table.patterns]


def logged(attributes: ExceptionAttributes) -> PatternCount:
    """Return the count of one log record with these attributes."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=END_MS * MS)
    for key, value in attributes.items():
        record.attributes.add(key=key).value.string_value = value
    found = LogFold(FoldConfig(TIMES)).fold(request.SerializeToString(), AT).message
    assert found is not None
    ((_, _, table),) = found.logs[0].windows
    (pattern,) = table.patterns
    return pattern


@pytest.mark.parametrize("attributes", EXCEPTIONS)
def test_an_exception_of_a_span_has_the_pattern_of_the_same_exception_in_a_log_record(
    attributes: ExceptionAttributes,
) -> None:
    (found,), expected = counted(folded(span_of(1, attributes))), logged(attributes)
    assert (found.severe, found.count, found.severity) == (True, 1, 17)
    assert (found.pattern_id, found.texts) == (expected.pattern_id, expected.texts)
    assert [sample.line for sample in found.samples] == [sample.line for sample in expected.samples]


def test_an_exception_counts_for_the_service_and_host_of_its_span_and_names_its_trace() -> None:
    (found,) = counted(folded(span_of(1, {"exception.type": "Closed"})))
    assert found.hosts == (("host-1", 1),)
    assert [(sample.trace_id, sample.host) for sample in found.samples] == [("ab" * 16, "host-1")]


def test_an_exception_with_a_message_alone_is_an_error_with_that_line() -> None:
    (found,) = counted(folded(span_of(1, {"exception.message": "connection to 10.0.0.1 was refused"})))
    assert (found.severe, found.severity) == (True, 17)
    assert [sample.line for sample in found.samples] == ["connection to <ip> was refused"]


def test_an_exception_without_attributes_is_counted() -> None:
    assert [found.count for found in counted(folded(span_of(1, {})))] == [1]


def test_an_exception_counts_in_the_window_of_the_end_of_its_span() -> None:
    ((start_ms, late, _),) = windows(folded(span_of(1, {"exception.type": "Closed"})))
    assert (start_ms, late) == (END_MS - END_MS % WINDOW_MS, False)


def test_an_exception_is_late_where_its_span_is_late() -> None:
    oldest_ms = AT.timestamp_ms - LATENESS_MS
    for end_ms, expected in ((oldest_ms, False), (oldest_ms - 1, True)):
        found = folded(span_of(1, {"exception.type": "Closed"}, end_ms=end_ms))
        ((_, late, _),) = windows(found)
        assert late is expected
        assert dict(found.counts).get("records_late_total", 0) == int(expected)


def test_a_span_that_does_not_count_gives_no_exceptions() -> None:
    """Of two spans with one id the first counts. A span with bad times does not, even if its event has a good time."""
    old = span_of(2, {"exception.type": "Old"}, end_ms=AT.timestamp_ms - TIMES.age_max_ms - 1)
    future = span_of(3, {"exception.type": "Future"}, end_ms=AT.timestamp_ms + TIMES.future_max_ms + 1)
    backwards = span_of(4, {"exception.type": "Backwards"})
    backwards.start_time_unix_nano = backwards.end_time_unix_nano + 1
    for bad in (old, future, backwards):
        bad.events[0].time_unix_nano = END_MS * MS
    again = span_of(1, {"exception.type": "Again"})
    found = folded(old, span_of(1, {"exception.type": "First"}), again, future, backwards, span_of(5))
    assert [pattern.samples[0].line for pattern in counted(found)] == ["First:"]
    assert sorted(letter.reason for letter in found.dead_letters) == [
        *("duplicate_span", "end_before_start", "future", "too_old")
    ]


def test_other_events_and_messages_without_a_counted_span_give_no_exceptions() -> None:
    assert counted(folded(span_of(1, {"exception.type": "Closed"}, name="log"))) == []
    old_ms = AT.timestamp_ms - TIMES.age_max_ms - 1
    assert folded(span_of(1, {"exception.type": "Closed"}, end_ms=old_ms)).message is None


def test_exceptions_are_neither_activity_of_logs_nor_records_of_their_own() -> None:
    found = folded(span_of(1, {"exception.type": "Closed"}), span_of(2))
    assert found.message is not None
    assert found.message.activity == ()
    assert dict(found.counts) == {"records_folded_total": 2}


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_eight_exceptions_of_a_span_are_counted_in_each_form(form: str) -> None:
    """The first eight are counted, and the number of the other four. The next span is counted separately."""
    exceptions = [{"exception.type": f"E{'abcdefghijkl'[number]}"} for number in range(12)]
    request = request_of([span_of(1, *exceptions), span_of(2, *exceptions[10:])])
    data = request.SerializeToString() if form == "protobuf" else otlp_json(request)
    found = FOLD.fold(data, AT)
    lines = sorted(pattern.samples[0].line for pattern in counted(found))
    assert lines == [f"E{letter}:" for letter in "abcdefghkl"]
    assert dict(found.counts)["exceptions_overflowed_total"] == 4


def test_each_form_folds_to_the_same() -> None:
    every = [param.values[0] for param in EXCEPTIONS]
    request = request_of([span_of(1, *every), span_of(2, {"exception.message": "né 7"}), span_of(3)])  # type: ignore[arg-type]
    found = FOLD.fold(otlp_json(request), AT)
    assert found.message == FOLD.fold(request.SerializeToString(), AT).message
    assert sum(pattern.count for pattern in counted(found)) == 4


def test_a_broken_exception_rejects_its_message_in_each_form() -> None:
    good = request_of([span_of(1, {"exception.type": "Closed"})])
    broken = good.SerializeToString().replace(b"\x0eexception.type", b"\x7fexception.type")
    found = FOLD.fold(broken, AT)
    assert [letter.reason for letter in found.dead_letters] == ["malformed_protobuf"]
    found = FOLD.fold(otlp_json(good).replace(b'"name": "exception"', b'"name": 7'), AT)
    assert [letter.reason for letter in found.dead_letters] == ["malformed_json"]
