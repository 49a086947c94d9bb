"""A recorded day (Nezha, TrainTicket) through the whole graph: top patterns and `other` add up to all severe lines.

The expected numbers are counted in the JSON of the recording from its severity numbers, services and times alone.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from jobs.graph import GraphConfig
from operators.detectors.pattern_rows import PATTERN_RESOLUTIONS_S
from reasoner.recordings.read import BadLines, read
from reasoner.runs.local_run import LocalRun
from state_schemas.aggregates.logs import OTHER_PATTERNS
from state_schemas.contracts.tables import PatternRow
from tests.support.recorded import NEZHA as RECORDED
from udfs.detect.log_patterns.rule import PatternConfig
from udfs.logs.severity import WARN

TOP = 1  # a service logs up to three patterns in one window, so some lines are left for `other`

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="no recordings: ../shared/data/nezha-trainticket is absent"
)


def documents(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            yield from (json.loads(line) for line in io.BufferedReader(stream) if line.strip())


def severe_lines(paths: list[Path]) -> Counter[tuple[str, int, int]]:
    """Count the severe log records by service, window length in seconds and window start in ms."""
    found: Counter[tuple[str, int, int]] = Counter()
    for document in documents(paths):
        for resource in document["resourceLogs"]:
            attributes = {entry["key"]: entry["value"] for entry in resource["resource"]["attributes"]}
            for record in (record for scope in resource["scopeLogs"] for record in scope["logRecords"]):
                if record["severityNumber"] >= WARN:
                    at_ms = int(record["timeUnixNano"]) // 1_000_000
                    for resolution_s in PATTERN_RESOLUTIONS_S:
                        start_ms = at_ms - at_ms % (resolution_s * 1_000)
                        found[attributes["service.name"]["stringValue"], resolution_s, start_ms] += 1
    return found


def emissions(rows: list[PatternRow]) -> list[list[PatternRow]]:
    """Return the rows that were emitted together: each emission begins with its first rank."""
    found: list[list[PatternRow]] = []
    for row in rows:
        if row.rank == 1:
            found.append([])
        found[-1].append(row)
    return found


def test_top_patterns_and_other_of_a_recorded_day_add_up_to_all_its_severe_lines() -> None:
    paths = sorted((RECORDED / "2023-01-30").glob("*.logs.jsonl.zst"))
    expected, bad = severe_lines(paths), BadLines()
    run = LocalRun(replace(GraphConfig(), patterns=PatternConfig(top=TOP)))
    rows = [row for row in run.run(read(paths, bad)) if isinstance(row, PatternRow)]

    counted: Counter[tuple[str, int, int]] = Counter()
    for together in emissions(rows):
        assert len({(row.service, row.resolution_s, row.window_start_ms, row.late, row.total) for row in together}) == 1
        assert sum(row.count for row in together) == together[0].total
        assert sum(row.rank > 0 for row in together) <= TOP
    for row in rows:
        counted[row.service, row.resolution_s, row.window_start_ms] += row.count
    assert counted == expected
    assert counted.total() == len(PATTERN_RESOLUTIONS_S) * 2_333
    assert sum(row.count for row in rows if row.pattern_id == OTHER_PATTERNS) > 0, "no line was left for `other`"
    assert (bad.dropped, run.counts["records_rejected_total"]) == (0, 0)
