"""Insights about severe lines, as drawn: one character a window of 10 s; LINES has the lines of each character."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

import pytest

from jobs.graph import stages
from operators.detectors.log_patterns import LogPatterns
from operators.emission import EmissionConfig
from operators.ingest.fold import FoldConfig, logs_part
from operators.machine import Stage
from operators.runtime.local import LocalGraph
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.tables import PatternRow
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from tests.support.driving import Timed, graph_config, insights, run
from tests.support.timeline import last, window_of
from tests.support.traffic import LATENESS_MS, MS, READER, START_MS, TIMES, WINDOW_MS
from udfs.detect.lifecycle import UNSEEN
from udfs.detect.log_patterns.rule import LIFE, PatternConfig
from udfs.logs.masking.masker import MaskSettings
from udfs.logs.reader import pattern_ids

FULL = "could not reserve {} pieces of item in store"
DOWN = "connection to {} was refused by its peer"
WARM = "." * 62  # 10 minutes and 20 s
QUIET = [(9, "order {} was placed for a customer")] * 10
LINES: Mapping[str, list[tuple[int, str]]] = {
    ".": QUIET,
    "f": [*QUIET, (17, FULL)],
    "F": [*QUIET, (17, FULL), (17, FULL)],
    "X": [*QUIET, (21, FULL)],
    "d": [*QUIET, (17, DOWN), (17, DOWN)],
    "D": [*QUIET, *[(17, DOWN)] * 40],
    "T": [*QUIET * 4, *[(17, DOWN)] * 8],
    "w": [*QUIET, (13, "disk is nearly full at {} per cent")],
}
CART = Resource("prod", "cart", "host-0")
_NUMBERS = count(1)


def emitted(drawing: str, versions: str = "") -> list[Insight]:
    """Return every revision of the insights about one service, emitted when final.

    versions: its version by window, a character each; of an upper case letter only host-0 has it, and host-1 has 1.
    """
    return insights(run([stage_with_insights(True)], events_of(drawing, versions)))


def stage_with_insights(on: bool) -> Stage:
    (stage,) = (stage for stage in stages(graph_config("final")) if stage.uid == "error-patterns")
    emission = EmissionConfig(lateness_ms=LATENESS_MS, emit_when="final")
    return replace(stage, machine=LogPatterns(PatternConfig(insights=on), emission))


def events_of(drawing: str, versions: str = "") -> list[Timed]:
    events: list[Timed] = []
    for window, character in enumerate(drawing):
        start_ms = START_MS + window * WINDOW_MS
        version = versions[window : window + 1]
        of_host = version, "1" if version.isupper() else version
        records = [
            LogRecord(
                resource=Resource("prod", "cart", f"host-{number % 2}", version=of_host[number % 2]),
                time_ns=(start_ms + 100 * number % WINDOW_MS) * MS,
                severity_number=severity,
                severity_text="",
                body=line.format(next(_NUMBERS)),
                event_name="",
                attributes=(),
                trace_id=f"{window * 100 + number + 1:032x}",
            )
            for number, (severity, line) in enumerate(LINES.get(character, []))
        ]
        if records:
            at = KafkaPosition("logs_raw", 0, window, start_ms + WINDOW_MS)
            events += [(at.timestamp_ms, part) for part in logs_part(records, READER, at, FoldConfig(TIMES)).logs]
    return events


@pytest.mark.parametrize(
    ("drawing", "versions", "before"),
    [
        (WARM + "." * 20 + "FF", "1" * 62 + "2" * 22, "1"),
        (WARM + "FF", "1" * 62 + "22", "1"),
        (WARM + "." * 20 + "FF", "1" * 62 + "2" * 20 + "11", ""),
        (WARM + "." * 185 + "FF", "1" * 62 + "2" * 187, ""),
        (WARM + "FF", "2" * 64, ""),
        (WARM + "FF", "1" + "2" * 63, ""),
        (WARM + "." * 20 + "FF", "1" * 62 + "2" * 20 + "AA", ""),
        (WARM + "FF", "1" * 62, ""),
    ],
    ids=[
        *("behind a version", "with a version", "back to the one before", "long after"),
        *("the first version", "in the warm-up", "on both versions", "without a version"),
    ],
)
def test_a_new_error_of_a_version_that_came_before_it_is_new_since_that_version(
    drawing: str, versions: str, before: str
) -> None:
    first, *_ = emitted(drawing, versions)
    assert first.kind == "error_pattern_new"
    assert first.evidence.version_before == before
    assert (", new since version 2: could not reserve" in first.title) is bool(before)


def test_an_error_that_comes_on_the_version_before_too_is_not_new_since_a_version() -> None:
    revisions = emitted(WARM + "." * 20 + "FFFFFF", "1" * 62 + "2" * 20 + "22" + "1111")
    assert [", new since version 2" in insight.title for insight in revisions][:2] == [True, False]


def test_the_end_of_input_retracts_no_insight() -> None:
    (stage,) = (stage for stage in stages(graph_config("early")) if stage.uid == "error-patterns")
    found = insights(run([stage], events_of("." * 14 + "FF.")))
    assert [insight.status for insight in found] == ["open"]


def brief(revisions: list[Insight]) -> list[tuple[str, str, int]]:
    return [(insight.kind, insight.status, window_of(insight.window.start_ms)) for insight in last(revisions)]


def test_patterns_logged_from_the_start_are_known() -> None:
    assert emitted("f.d.w" * 30) == []


def test_the_insight_of_a_new_error_has_its_template_host_and_trace() -> None:
    found = emitted(WARM + "f.ff.f" + "." * 70)
    assert brief(found) == [("error_pattern_new", "closed", 62)]
    first, final = found[0], found[-1]
    assert first.title == (
        "cart: new error, 2 times since 22:25:20: could not reserve <number> pieces of item in store; "
        f"on host host-0 (100 %); trace {64 * 100 + 11:032x}"
    )
    assert (first.severity, first.subject) == ("warning", final.subject)
    assert (final.reason, final.measures["lines"]) == (UNSEEN.reason, 4.0)
    assert window_of(final.window.end_ms) == 68
    assert final.evidence.template == "could not reserve <number> pieces of item in store"
    assert set(final.evidence.sample_lines) == {final.evidence.template}, "the lines of an insight must be masked"
    assert [(part.first_offset, part.last_offset) for part in final.evidence.kafka] == [(62, 67)]


def test_the_insight_of_a_new_warning_is_titled_as_a_warning() -> None:
    (found,) = last(emitted(WARM + "w.w" + "." * 70))
    assert (found.severity, "new warning, 2 times" in found.title) == ("info", True)


def test_a_single_new_line_is_no_insight_unless_it_is_fatal() -> None:
    assert emitted(WARM + "f" + "." * 70) == []
    (found,) = last(emitted(WARM + "X" + "." * 70))
    assert (found.severity, "new error, once" in found.title) == ("critical", True)


def test_a_new_error_that_stays_is_known_after_half_an_hour_and_opens_no_second_insight() -> None:
    found = last(emitted(WARM + "f" * 400))
    assert [(insight.kind, insight.status, insight.reason) for insight in found] == [
        ("error_pattern_new", "closed", LIFE.accepted)
    ]


def test_a_known_error_that_returns_after_an_hour_is_an_insight_with_the_time_it_was_absent() -> None:
    found = emitted("f" + "." * 6 * 62 + "F" + "." * 70)
    assert brief(found) == [("error_pattern_returned", "closed", 373)]
    assert "cart: error returned after 1.0 h, 2 times since" in found[-1].title


def test_a_known_error_that_returns_at_its_usual_interval_is_one_insight() -> None:
    away = "." * 6 * 62
    assert brief(emitted("f" + away + "F" + away + "F" + away + "F" + "." * 70)) == [
        ("error_pattern_returned", "closed", 373)
    ]


def test_a_seeded_error_is_never_new() -> None:
    seeds = pattern_ids("# known errors\ncould not reserve 3 pieces of item in store\n", MaskSettings())
    (stage,) = (stage for stage in stages(graph_config("final")) if stage.uid == "error-patterns")
    for known, kinds in ((seeds, []), (frozenset[str](), ["error_pattern_new"])):
        machine = LogPatterns(PatternConfig(seeds=known), EmissionConfig(lateness_ms=LATENESS_MS, emit_when="final"))
        found = insights(run([replace(stage, machine=machine)], events_of(WARM + "F" + "." * 70)))
        assert [insight.kind for insight in last(found)] == kinds


def test_a_known_error_that_comes_now_and_then_is_no_insight() -> None:
    assert emitted(("f" + "." * 120) * 5) == []


def test_ten_of_a_storm_of_new_errors_are_insights_and_lines_beyond_the_registry_are_counted() -> None:
    """One window has two lines each of 60 different patterns; the registry has room for 40."""
    kinds = "abcdefghijklmnopqrstuvwxyz"
    storm = [f"{a}{a}{b} broke the {b}{a}{b} of a shop" for a in kinds[:6] for b in kinds[:10]] * 2
    (stage,) = (stage for stage in stages(graph_config("final")) if stage.uid == "error-patterns")
    emission = EmissionConfig(lateness_ms=LATENESS_MS, emit_when="final")
    few = LogPatterns(PatternConfig(patterns_max=40), emission)
    calm = events_of(WARM)
    start_ms = START_MS + len(WARM) * WINDOW_MS
    records = [LogRecord(CART, (start_ms + 1) * MS, 17, "", body, "", (), "") for body in storm]
    at = KafkaPosition("logs_raw", 0, len(WARM), start_ms + WINDOW_MS)
    stormy = [(at.timestamp_ms, part) for part in logs_part(records, READER, at, FoldConfig(TIMES)).logs]
    graph, out = LocalGraph([replace(stage, machine=few)]), []
    for at_ms, event in [*calm, *stormy, *events_of(WARM + "." * 99)[len(WARM) :]]:
        out += graph.feed((event,))
        out += graph.advance(at_ms)
    assert graph.counts["lines_overflowed_total"] == 2 * (60 - 40)
    assert len({insight.subject for insight in insights(out + graph.finish())}) == 10
    assert graph.counts["lines_overflowed_total"] == 2 * (60 - 40), "counted once, however often event time advances"


def test_far_more_of_a_known_error_is_a_surge_until_it_is_back_to_usual() -> None:
    found = emitted("d" * 90 + "D" * 8 + "d" * 60)
    assert brief(found) == [("error_pattern_surge", "closed", 90)]
    assert found[-1].reason == LIFE.recovered
    assert found[-1].measures["lines"] == 8 * 40
    title = "cart: error 240 per minute (usually 12) since 22:30:00: connection to <number> was refused"
    assert found[-1].title.startswith(title)


def test_four_times_the_traffic_with_four_times_its_errors_is_no_surge() -> None:
    assert emitted("d" * 90 + "T" * 60) == []


def test_a_few_lines_of_a_rare_error_are_no_surge() -> None:
    assert emitted(("f" + "." * 59) * 3 + "ff" + "." * 60) == []


def test_a_machine_with_insights_off_emits_none_even_when_its_state_expires() -> None:
    """A new error is open when the service stops for ever: rows are written, and with insights off none closes."""
    for on in (True, False):
        graph, out, newest_ms = LocalGraph([stage_with_insights(on)]), [], START_MS
        for newest_ms, event in events_of(WARM + "ff"):
            out += graph.feed((event,))
            out += graph.advance(newest_ms)
        out += graph.advance(newest_ms + 9 * 24 * 3_600_000)
        assert not graph.state_bytes()
        assert any(isinstance(row, PatternRow) for row in out)
        assert [insight.status for insight in last(insights(out))] == (["closed"] if on else [])
