"""Sink that writes each revision of an insight as a line of JSON into the files of a folder."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from jobs.settings import JobConfig
from jobs.sinks import Insert
from jobs.table_sql import with_clause
from operators.runtime.routing import SinkRows
from state_schemas.contracts.insight import Insight, to_json

# Readers see a file when it is finished: at the first checkpoint after a minute.
_FINISHED: Final = {"sink.rolling-policy.rollover-interval": "1 min", "sink.rolling-policy.check-interval": "10 s"}


def _row(insight: Insight) -> Sequence[Any]:
    return (to_json(insight).decode(),)


ROWS: Final = SinkRows("insight-lines", Insight, (("line", "string"),), _row)


def folder_of(config: JobConfig) -> str:
    """Return where the files are: a folder beside the tables, in any file system that the cluster can write."""
    return f"{config.lake.warehouse}/insight_lines"


def _table(config: JobConfig) -> str:
    options = {"connector": "filesystem", "path": folder_of(config), "format": "raw", **_FINISHED}
    return f"CREATE TEMPORARY TABLE insight_lines (line STRING) {with_clause(options)}"


# Each line is in a finished file exactly once: Flink finishes files at checkpoints only.
INSERT: Final = Insert("own-insight-lines", ROWS, "INSERT INTO insight_lines SELECT line FROM {view}", _table)


def lines_of(outputs: Iterable[Any]) -> list[str]:
    """Return the lines of the outputs of the local engine, which has no tables."""
    return [line for output in outputs if isinstance(output, ROWS.takes) for line in ROWS.to_row(output)]
