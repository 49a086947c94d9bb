"""The blocks of docs/tables.md and docs/runbook.md, as they stand there, on tables with rows as the job writes them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from jobs.sinks import SHIPPED
from reasoner.clients import lake
from state_schemas.contracts.insight import Evidence, Insight, Window
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import NAMESPACE, TABLES, Column, EdgeRow, MatchRow, PatternRow, RollupRow
from tests.tidy.rules import ROOT
from udfs.stats.duration_histogram import bins_of, pack, quantile_ns

ADDRESSES = {
    "postgresql+psycopg2://reasoner@127.0.0.1:5433/lake": "sqlite:///{folder}/catalog.db",
    "file:///path/to/checkout/.run/warehouse": "file://{folder}/warehouse",
}
ELSEWHERE = "## Trino"  # from here on, engines that are not here
# Within the last hour, which every query asks for, on the grid of five minutes.
NOW_MS = int((datetime.now(UTC) - timedelta(minutes=10)).timestamp()) // 300 * 300_000
FAST_NS = np.linspace(10e6, 40e6, 900).astype(np.int64)
SLOW_NS = np.linspace(400e6, 800e6, 100).astype(np.int64)


def rollup(durations_ns: NDArray[np.int64], **changes: Any) -> RollupRow:
    """Return a row of `latency_rollups` about the requests of `cart`."""
    bins, counts = np.unique(bins_of(durations_ns), return_counts=True)
    p50, p95, p99 = (quantile_ns(bins, counts, q) / 1e6 for q in (0.5, 0.95, 0.99))
    row = RollupRow(
        *("prod", "", "cart", "service", "", "server", 60, NOW_MS, False, len(durations_ns), 20),
        *(p50, p95, p99, pack(bins, counts), ""),
    )
    return msgspec.structs.replace(row, **changes)


def rollups() -> Iterator[RollupRow]:
    """Yield ten minutes in two windows: a fast one, of which two deltas came, and a slow one."""
    for resolution_s in (60, 300):
        yield rollup(FAST_NS[:800], resolution_s=resolution_s, window_start_ms=NOW_MS - 300_000)
        yield rollup(FAST_NS[800:], resolution_s=resolution_s, window_start_ms=NOW_MS - 300_000)
        yield rollup(SLOW_NS, resolution_s=resolution_s)
    yield rollup(SLOW_NS, dimension="host", name="cart-1")
    yield rollup(SLOW_NS, dimension="operation", name="GET /cart")
    yield rollup(SLOW_NS, env="staging", service="other")


def edge() -> EdgeRow:
    measures = (20.0, 90.0, 95.0, 2.0, 70.0, 0.1)
    return EdgeRow("prod", "", "cart", "stock", 300, NOW_MS, False, 40, 1, *measures, b"", "", "")


def pattern(name: str, count: int, rank: int = 1) -> PatternRow:
    template = "" if name == "other" else f"{name} failed"
    return PatternRow("prod", "", "cart", "logs", 60, NOW_MS, False, rank, name, template, 17, count, 100, "")


def insight(number: int, *statuses: Any) -> Iterator[Insight]:
    """Yield the revisions of an insight."""
    for revision, status in enumerate(statuses):
        yield Insight(
            insight_id=f"{number:032x}",
            revision=revision,
            status=status,
            kind="latency_spike",
            env="prod",
            service="cart",
            subject="",
            window=Window(start_ms=NOW_MS - number * 1_000, end_ms=NOW_MS),
            severity="warning",
            confidence=0.9,
            title=f"insight {number}, {status}",
            measures={},
            evidence=Evidence(),
        )


def match(number: int, *statuses: str) -> Iterator[MatchRow]:
    """Yield the revisions of a match of the rule `rule-NUMBER`."""
    for revision, status in enumerate(statuses):
        yield MatchRow(
            *(f"{number:032x}", revision, status, "prod", "cart", f"rule-{number % 2}", 1, False, "warning"),
            *(NOW_MS - number * 1_000, NOW_MS, 1, "[]", f"match {number}, {status}", ""),
        )


def append(settings: Lake, rows: Sequence[Any]) -> None:
    """Append rows to their tables, converted as the sinks of the job do it."""
    opened = lake.catalog(settings)
    for spec in TABLES:
        sink = next(insert.rows for insert in SHIPPED if f".{spec.name} (" in insert.sql)
        names = [name for name, _ in sink.columns]
        found = [dict(zip(names, sink.to_row(row), strict=True)) for row in rows if isinstance(row, sink.takes)]
        columns = [{column.name: value_of(column, row[column.field[0]]) for column in spec.columns} for row in found]
        table = opened.load_table((NAMESPACE, spec.name))
        table.append(pa.Table.from_pylist(columns, schema=table.schema().as_arrow()))


def value_of(column: Column, value: Any) -> Any:
    """Return the value for Arrow, whose times are in µs."""
    return value * 1_000 if column.type == "timestamptz" else value


def blocks(document: str, language: str) -> list[str]:
    """Return the blocks of a language, up to ELSEWHERE."""
    text = (ROOT / "docs" / document).read_text().partition(ELSEWHERE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


class Session:
    """What the Python blocks of docs/tables.md define and print, run in their order with the addresses of this test."""

    def __init__(self, folder: Path) -> None:
        code = "\n".join(blocks("tables.md", "python"))
        for theirs, ours in ADDRESSES.items():
            assert code.count(theirs) == 1, f"docs/tables.md has {theirs} {code.count(theirs)} times, expected once"
            code = code.replace(theirs, ours.format(folder=folder))
        self.names: dict[str, Any] = {}
        with redirect_stdout(StringIO()) as printed:
            exec(compile(code, "docs/tables.md", "exec"), self.names)
        self.printed = printed.getvalue()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what the DuckDB of the document answers."""
        found: list[tuple[Any, ...]] = self.names["db"].sql(sql).fetchall()
        return found

    def answer(self, text: str) -> list[tuple[Any, ...]]:
        """Return what the one query of docs/tables.md with this text returns."""
        (sql,) = (sql for sql in blocks("tables.md", "sql") if text in sql)
        return self.rows(sql)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("lake")
    settings = Lake(uri=f"jdbc:sqlite:{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    lake.create_tables(settings)
    insights = (*insight(1, "open", "updated"), *insight(2, "open", "closed"), *insight(3, "open"))
    patterns = (pattern("7c32aacadf8edf5f", 5), pattern("b", 90), pattern("other", 500, rank=0))
    matches = (*match(1, "open", "closed"), *match(2, "open", "retracted"), *match(3, "open"), *match(4, "open"))
    append(settings, [*rollups(), edge(), *patterns, *insights, *matches])
    return Session(folder)


def test_pyiceberg_adds_up_the_sketches_of_the_requests_to_their_p95(session: Session) -> None:
    found = re.search(r"P95 of (\d+) requests: ([\d.]+) ms", session.printed)
    assert found
    durations_ns = np.sort(np.concatenate((FAST_NS, SLOW_NS)))
    assert int(found[1]) == len(durations_ns), "each request once: one resolution, one dimension, every delta"
    assert float(found[2]) == pytest.approx(durations_ns[949] / 1e6, rel=0.011)


@pytest.mark.parametrize(("document", "queries"), [("tables.md", 5), ("runbook.md", 5)])
def test_duckdb_answers_each_query_of_the_documents(session: Session, document: str, queries: int) -> None:
    found = blocks(document, "sql")
    assert len(found) == queries
    assert all(session.rows(sql) for sql in found), "a query without rows asks for names that the job does not write"


def test_p95_over_time_adds_up_the_deltas_of_a_window_and_takes_the_quantile_of_the_largest(session: Session) -> None:
    found = session.answer("FROM insights.latency_rollups")
    rows = [(requests, errors, round(p95_ms)) for _, requests, errors, p95_ms in found]
    assert rows == [(900, 40, 35), (100, 20, 780)]


def test_open_insights_are_those_whose_highest_revision_is_not_closed(session: Session) -> None:
    assert [row[2] for row in session.answer("HAVING max_by(status")] == ["insight 3, open", "insight 1, updated"]


def test_top_patterns_come_with_most_lines_first_and_without_the_others(session: Session) -> None:
    assert [row[1:3] for row in session.answer("error_patterns")] == [("b", 90), ("7c32aacadf8edf5f", 5)]


def test_matches_are_counted_once_each_and_not_when_they_were_taken_back(session: Session) -> None:
    assert [row[:2] for row in session.answer("sequence_matches")] == [("rule-1", 2), ("rule-0", 1)]
