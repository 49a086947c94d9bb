"""Laws of log counting: no line is lost, whatever the number of lines and of different words."""

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings

from jobs.graph import stages
from operators.detectors.log_patterns import UNKNOWN_MAX
from operators.ingest.fold import FoldConfig, logs_part
from operators.runtime.local import LocalGraph
from state_schemas.aggregates.logs import OTHER_PATTERNS
from state_schemas.contracts.tables import PatternRow
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from tests.support.driving import graph_config
from tests.support.machines import events_of
from tests.support.stories import Story, stories
from tests.support.traffic import MS, OUT_OF_ORDER_MS, READER, START_MS, TIMES, WINDOW_MS, messages
from udfs.detect.log_patterns.registry import VARIANTS_MIN

few = settings(max_examples=settings().max_examples // 5)
STAGES = [stage for stage in stages(graph_config()) if stage.uid == "error-patterns"]
TOP = 3


def emissions(graph: LocalGraph, watermark_ms: int) -> list[list[PatternRow]]:
    """Return the rows that were emitted together, grouped by service and window."""
    found: dict[tuple[Any, ...], list[PatternRow]] = {}
    for row in graph.advance(watermark_ms):
        if isinstance(row, PatternRow):
            window = (row.env, row.service, row.resolution_s, row.window_start_ms, row.late)
            found.setdefault(window, []).append(row)
    return list(found.values())


@few
@given(stories())
def test_top_patterns_and_other_add_up_to_all_severe_lines_in_each_emission_and_in_total(story: Story) -> None:
    sent = messages(story)
    graph, rows, newest_ms = LocalGraph(STAGES), [], START_MS
    together = []
    for message in sent:
        graph.feed(event for _, event in events_of("error-patterns", [message]))
        newest_ms = max(newest_ms, message.timestamp_ms)
        together += emissions(graph, newest_ms - OUT_OF_ORDER_MS)
    together += emissions(graph, 2**63 - 1)
    for rows in together:
        assert sum(row.count for row in rows) == rows[0].total
        assert len({row.total for row in rows}) == 1
        ranked = [row for row in rows if row.rank]
        assert [row.rank for row in ranked] == list(range(1, len(ranked) + 1))
        assert len(ranked) <= TOP
        assert sorted(ranked, key=lambda row: (-row.count, row.pattern_id)) == ranked
    expected = Counter(span.service for message in sent for span in message.spans if span.error)
    for resolution_s in (10, 60):
        found: Counter[str] = Counter()
        for row in (row for rows in together for row in rows if row.resolution_s == resolution_s):
            found[row.service] += row.count
        assert found == expected


def line(at_ms: int, body: str) -> LogRecord:
    return LogRecord(Resource("prod", "cart", "h"), at_ms * MS, 17, "", body, "", (), "")


def test_a_flood_of_new_words_stays_within_its_bound_and_hides_no_known_pattern() -> None:
    """15,000 different lines beside a known one: the known one is counted exactly, and all lines add up."""
    random = Random(3)
    words = ["".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8)) for _ in range(30_000)]
    graph, rows = LocalGraph(STAGES), []
    sizes = []
    for window in range(25):
        at_ms = START_MS + window * WINDOW_MS
        flood = [f"{a} {b} {c}" for a, b, c in (random.sample(words, 3) for _ in range(1_000 if window >= 10 else 0))]
        records = [line(at_ms + 1, body) for body in (*flood, *["payment was declined by the bank"] * 7)]
        at = KafkaPosition("logs_raw", 0, window, at_ms + WINDOW_MS)
        graph.feed(logs_part(records, READER, at, FoldConfig(TIMES)).logs)
        rows += [row for part in emissions(graph, at.timestamp_ms) for row in part if row.resolution_s == 10]
        sizes += list(graph.state_bytes().values())
    rows += [row for part in emissions(graph, 2**63 - 1) for row in part if row.resolution_s == 10]
    known = Counter[int]()
    for row in rows:
        known[row.window_start_ms] += row.count if row.template == "payment was declined by the bank" else 0
    assert set(known.values()) == {7}
    assert sum(row.count for row in rows) == 15 * 1_000 + 25 * 7
    assert sum(row.count for row in rows if row.pattern_id == OTHER_PATTERNS) > 10_000
    assert max(sizes) < 700_000
    assert graph.counts["lines_overflowed_total"] >= 15 * (1_000 - UNKNOWN_MAX - VARIANTS_MIN)
