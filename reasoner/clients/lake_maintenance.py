"""Maintenance of the Iceberg tables beside running jobs: few files in each partition, few snapshots, no orphans.

Each checkpoint writes at least one file for each partition that has rows. Maintenance merges the small files of a
partition into one, in the order of the table; then it removes old snapshots and the files that only they refer to. Rows
are never changed. A job may commit at the same time: single files are replaced, not partitions, so its rows are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from reasoner.errors import CommandFailed

# Properties that Flink writes into its snapshots. After a restore it searches for its own newest snapshot to find out
# which files are committed: without that snapshot it would commit the same files again.
_FLINK_JOB: Final = "flink.job-id"
_FLINK_OPERATOR: Final = "flink.operator-id"
JOBS_KEPT_MS: Final = 7 * 24 * 3_600_000  # a job that has been stopped for longer must start without its old savepoints
SMALL_BYTES: Final = 64 * 2**20  # a file of this size or more is not merged
GROUP_BYTES: Final = 256 * 2**20  # of a partition that are merged at a time, at most: in memory, uncompressed
FILES_MIN: Final = 2  # small files that a partition must have to be merged
TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Maintained:
    """Result of the maintenance of one table. files_removed: from storage, manifests and manifest lists included."""

    table: str
    files_before: int
    files_after: int
    snapshots_expired: int
    files_removed: int


def maintain(table: Table, before_ms: int, partitions_max: int = 64) -> Maintained:
    """Merge small files, then remove snapshots older than before_ms (epoch ms).

    partitions_max: partitions in one commit; bounds the work that is repeated after a conflict. Cost: reads and writes
    every row of the partitions that have small files, one partition at a time. Raises CommandFailed if jobs commit
    faster than a batch can be written, TRIES times; what was committed before is kept. An interrupted run leaves unused
    files, which only cost space.
    """
    before = len(list(table.scan().plan_files()))
    done: set[str] = set()
    conflicts = 0
    while batch := _small_files(table.refresh(), partitions_max, done):
        try:
            _compact(table, list(batch.values()))
            done |= batch.keys()
            conflicts = 0
        except (CommitFailedException, ValidationException):
            # The same files were replaced by others, or jobs committed faster; pyiceberg has removed the new files.
            conflicts += 1
            if conflicts == TRIES:
                found = f"{table.name()[-1]}: jobs committed {TRIES} times while files were merged"
                message = f"{found}, expected fewer commits; run it again, or with a smaller --partitions"
                raise CommandFailed(message) from None
    try:
        expired, removed = _expire(table, before_ms)
    except CommitFailedException:
        expired, removed = 0, 0  # a job has committed meanwhile: the next run removes these snapshots
    after = len(list(table.refresh().scan().plan_files()))
    return Maintained(table.name()[-1], before, after, expired, removed)


def _small_files(table: Table, partitions_max: int, done: set[str]) -> dict[str, list[FileScanTask]]:
    """Return the small files, by partition, of the next partitions that have enough of them and are not done."""
    found: dict[str, list[FileScanTask]] = {}
    for task in table.scan().plan_files():
        place = f"{task.file.spec_id} {task.file.partition}"
        if place not in done and task.file.file_size_in_bytes < SMALL_BYTES and not task.delete_files:
            group = found.setdefault(place, [])
            if sum(other.file.file_size_in_bytes for other in group) < GROUP_BYTES:
                group.append(task)
    enough = sorted(place for place, tasks in found.items() if len(tasks) >= FILES_MIN)
    return {place: found[place] for place in enough[:partitions_max]}


def _compact(table: Table, groups: Sequence[list[FileScanTask]]) -> None:
    """Replace the files of each group by one file, all in one commit."""
    with table.transaction() as transaction, transaction.update_snapshot().overwrite() as rewrite:
        for group in groups:
            for file in _dataframe_to_data_files(table.metadata, _rows(table, group), table.io):
                rewrite.append_data_file(file)
            for task in group:
                rewrite.delete_data_file(task.file)


def _rows(table: Table, group: Sequence[FileScanTask]) -> Any:
    columns = [table.schema().find_column_name(field.source_id) for field in table.sort_order().fields]
    rows = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue()).to_table(group)
    return rows.sort_by([(column, "ascending") for column in columns]) if columns else rows


def _expire(table: Table, before_ms: int) -> tuple[int, int]:
    """Remove old snapshots and return (snapshots removed, files removed).

    The snapshots from the current one back to the newest of each Flink job are kept.
    """
    table.refresh()
    kept = _way_to_jobs(table) | {reference.snapshot_id for reference in table.metadata.refs.values()}
    evicted = [s for s in table.snapshots() if s.timestamp_ms < before_ms and s.snapshot_id not in kept]
    if not evicted:
        return 0, 0
    suspects = _files(table, evicted)
    table.maintenance.expire_snapshots().by_ids([snapshot.snapshot_id for snapshot in evicted]).commit()
    # Refresh first: a snapshot that a job has added since refers only to new files and to files of its parent, which is
    # kept.
    orphans = suspects - _files(table.refresh(), table.snapshots())
    for path in sorted(orphans):
        table.io.delete(path)
    return len(evicted), len(orphans)


def _way_to_jobs(table: Table) -> set[int]:
    """Return the snapshots from the current one back to the newest of each Flink job and sink of the last JOBS_KEPT_MS.

    A restored job follows the parents until it finds its own snapshot, so each snapshot on that path must exist.
    """
    newest: dict[tuple[str, str], Snapshot] = {}
    for snapshot in sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number or 0):
        summary = snapshot.summary
        if summary is not None and summary[_FLINK_JOB]:
            newest[str(summary[_FLINK_JOB]), str(summary[_FLINK_OPERATOR])] = snapshot
    last_ms = max((snapshot.timestamp_ms for snapshot in table.snapshots()), default=0)
    wanted = {s.snapshot_id for s in newest.values() if last_ms - s.timestamp_ms <= JOBS_KEPT_MS}
    way: set[int] = set()
    here = table.current_snapshot()
    while here is not None and wanted - way:
        way.add(here.snapshot_id)
        here = table.snapshot_by_id(here.parent_snapshot_id) if here.parent_snapshot_id else None
    return way | wanted


def _files(table: Table, snapshots: Sequence[Snapshot]) -> set[str]:
    """Return every file to which these snapshots refer: manifest lists, manifests, data and delete files."""
    found = {snapshot.manifest_list for snapshot in snapshots}
    manifests = {m.manifest_path: m for snapshot in snapshots for m in snapshot.manifests(table.io)}
    found |= manifests.keys()
    for manifest in manifests.values():
        found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return found
