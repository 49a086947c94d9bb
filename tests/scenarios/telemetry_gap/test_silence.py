"""Insights about missing telemetry, as drawn in timelines."""

from tests.support.timeline import brief, emitted, sent, window_of
from tests.support.traffic import START_MS, OneSpan, Sent, fold


def test_a_silent_service_among_active_ones_is_missing_until_it_sends_again() -> None:
    lines = {
        "cart": "-" * 70,
        "mail": "-" * 35 + " " * 20 + "-" * 15,
    }
    found = emitted(sent(lines))
    assert brief(found) == [("telemetry_gap", "mail", "open"), ("telemetry_gap", "mail", "closed")]
    assert (window_of(found[1].window.start_ms), window_of(found[1].window.end_ms)) == (35, 55)
    assert [insight.title for insight in found] == [
        "mail: no traces since 22:20:50",
        "mail: traces again after 3 min without, since 22:24:10",
    ]
    assert "mail" in found[0].evidence.expected
    assert found[0].evidence.kafka


def test_a_service_that_was_active_only_briefly_is_not_missing() -> None:
    assert emitted(sent({"cart": "-" * 70, "mail": "-" * 20})) == []


def test_a_signal_type_that_stops_everywhere_is_one_insight() -> None:
    """Logs stop, traces go on."""
    lines = {"cart": "-" * 60, "mail": "-" * 60}
    found = emitted(sent(lines, logs={"cart": "x" * 20 + " " * 20 + "x" * 20, "mail": "x" * 20 + " " * 20 + "x" * 20}))
    assert brief(found) == [("telemetry_gap", "logs", "open"), ("telemetry_gap", "logs", "closed")]
    assert found[0].title.startswith("prod: no logs since ")


def test_no_data_from_the_whole_environment_is_one_insight_and_not_one_of_each_service() -> None:
    line = "-" * 40 + " " * 30 + "-" * 30
    found = emitted(sent({"cart": line, "mail": line}, logs={"cart": "x" * 100}))
    assert [(insight.subject, insight.service, insight.status) for insight in found] == [("", "", "closed")]
    assert (window_of(found[0].window.start_ms), window_of(found[0].window.end_ms)) == (40, 70)


def test_silence_at_the_end_of_the_input_is_no_insight() -> None:
    assert emitted(sent({"cart": "-" * 40, "mail": "-" * 40})) == []


def reasons(*spans: OneSpan) -> list[tuple[str, int]]:
    return [(letter.reason, letter.records) for letter in fold(Sent(START_MS, spans, 0, 0)).dead_letters]


def test_spans_that_cannot_be_counted_are_rejected_with_their_reason() -> None:
    good = OneSpan("cart", START_MS, 20, 1)
    assert reasons(good) == []
    assert reasons(good, good._replace(end_ms=7_258_118_400_000, number=2)) == [("future", 1)]
    assert reasons(good, good._replace(end_ms=0, latency_ms=0, number=2)) == [("no_time", 1)]
    assert reasons(good, good._replace(latency_ms=-1, number=2)) == [("end_before_start", 1)]
    assert reasons(good, good._replace(end_ms=START_MS - 8 * 86_400_000, number=2)) == [("too_old", 1)]
    assert reasons(good, good, good) == [("duplicate_span", 2)]


def test_a_span_is_no_duplicate_of_one_that_cannot_be_counted() -> None:
    """A producer corrects its clock and sends the span again."""
    good = OneSpan("cart", START_MS, 20, 1)
    future = good._replace(end_ms=START_MS + 400_000)
    assert reasons(future, good, good) == [("future", 1), ("duplicate_span", 1)]
