"""Maintenance changes files and never rows; it keeps the snapshots and files that Flink and readers need."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from reasoner.clients import lake, lake_maintenance
from reasoner.clients.lake_maintenance import Maintained, maintain
from state_schemas.contracts.settings import Lake

HOUR = datetime(2026, 1, 1, 10, tzinfo=UTC)
FUTURE_MS = 4_000_000_000_000  # every snapshot of these tests is older
DAY_MS = 24 * 3_600_000


@pytest.fixture
def table(tmp_path: Path) -> Table:
    settings = Lake(uri=f"jdbc:sqlite:{tmp_path}/db/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    lake.create_tables(settings)
    return next(table for table in lake.tables(settings) if table.name()[-1] == "insights")


def append(table: Table, number: int, **flink: str) -> None:
    """Commit rows as a job does: two services, one row each, in the hour of `number`."""
    at = HOUR + timedelta(hours=number % 2)
    rows = [
        {"insight_id": f"{number}-{service}", "revision": number, "env": "prod", "service": service, "window_start": at}
        for service in ("cart", "mail")
    ]
    schema = table.schema().as_arrow()
    table.append(pa.Table.from_pylist(rows, schema=schema), snapshot_properties=flink)


def ids(table: Table) -> Counter[str]:
    return Counter(table.refresh().scan(selected_fields=("insight_id",)).to_arrow()["insight_id"].to_pylist())


def stored(table: Table) -> set[Path]:
    return set(Path(table.location().removeprefix("file://")).rglob("*.parquet"))


def test_small_files_of_a_partition_become_one_and_no_row_changes(table: Table) -> None:
    for number in range(8):
        append(table, number)
    before = ids(table)
    done = maintain(table, FUTURE_MS - DAY_MS)
    assert ids(table) == before
    assert (done.files_before, done.files_after) == (16, 4), "two hours, two buckets of services"


def test_a_second_run_finds_nothing_to_do(table: Table) -> None:
    for number in range(4):
        append(table, number)
    maintain(table, FUTURE_MS)
    at_rest = table.refresh().metadata_location
    assert maintain(table, FUTURE_MS).snapshots_expired == 0
    assert table.refresh().metadata_location == at_rest


def test_old_snapshots_are_removed_with_the_files_that_only_they_name(table: Table) -> None:
    for number in range(8):
        append(table, number)
    before = ids(table)
    done = maintain(table, FUTURE_MS)
    assert len(table.refresh().snapshots()) == 1
    assert len(stored(table)) == done.files_after == 4
    assert done.files_removed > 16, "the replaced data files, their manifests and manifest lists"
    assert ids(table) == before


def test_young_snapshots_and_their_files_stay_for_readers_of_older_data(table: Table) -> None:
    for number in range(4):
        append(table, number)
    looked_at = table.refresh().current_snapshot()
    assert looked_at is not None
    maintain(table, looked_at.timestamp_ms - DAY_MS)
    assert table.scan(snapshot_id=looked_at.snapshot_id).to_arrow().num_rows == 8


def test_the_newest_snapshot_of_each_job_and_sink_is_reached_by_parents(table: Table) -> None:
    """After a restore Flink searches the parents for its last commit; without it rows would be committed twice."""
    for number, job in enumerate(("a", "b", "a", "b", "a")):
        append(table, number, **{"flink.job-id": job, "flink.operator-id": "sink"})
    append(table, 5)
    maintain(table, FUTURE_MS, partitions_max=1)
    assert len(table.refresh().snapshots()) < 6 + 4, "six appends and four compactions"
    here, met = table.current_snapshot(), []
    while here is not None:
        met.append(here.summary["flink.job-id"] if here.summary else None)
        here = table.snapshot_by_id(here.parent_snapshot_id) if here.parent_snapshot_id else None
    assert {"a", "b"} <= set(met)


@pytest.mark.parametrize(("days", "kept"), [(7, {"old", "new"}), (7.01, {"new"})])
def test_a_job_that_stopped_more_than_seven_days_ago_keeps_no_snapshot(
    table: Table, monkeypatch: pytest.MonkeyPatch, days: float, kept: set[str]
) -> None:
    """Else each job that ever ran keeps its way back for ever: nothing is expired any more."""
    clock = SimpleNamespace(time=lambda: 2_000_000_000.0)
    monkeypatch.setattr("pyiceberg.table.snapshots.time", clock)
    append(table, 0, **{"flink.job-id": "old", "flink.operator-id": "sink"})
    clock.time = lambda: 2_000_000_000.0 + days * 86_400
    append(table, 1, **{"flink.job-id": "new", "flink.operator-id": "sink"})
    maintain(table, FUTURE_MS)
    jobs = {s.summary["flink.job-id"] for s in table.refresh().snapshots() if s.summary and s.summary["flink.job-id"]}
    assert jobs == kept


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Call `act` once, while maintenance reads the rows of the first partition."""
    waiting = [act]
    read_rows = lake_maintenance._rows

    def rows(table: Table, group: Any) -> Any:
        while waiting:
            waiting.pop()()
        return read_rows(table, group)

    monkeypatch.setattr(lake_maintenance, "_rows", rows)


def test_rows_that_a_job_commits_meanwhile_are_kept(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        append(table, number)
    others = table.catalog.load_table(table.name())
    meanwhile(monkeypatch, lambda: append(others, 100))
    maintain(table, FUTURE_MS)
    assert ids(table) == Counter(f"{n}-{service}" for n in (0, 1, 2, 3, 100) for service in ("cart", "mail"))


def test_two_runs_at_once_compact_nothing_twice(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the other run has replaced the files, a run starts again and finds nothing to compact."""
    for number in range(4):
        append(table, number)
    before = ids(table)
    others = table.catalog.load_table(table.name())
    found: list[Maintained] = []
    meanwhile(monkeypatch, lambda: found.append(maintain(others, 0)))
    done = maintain(table, 0)
    assert ids(table) == before
    assert (found[0].files_after, done.files_after) == (4, 4)
