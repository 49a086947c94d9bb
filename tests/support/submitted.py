"""What a job must have written for the telemetry of the shop, however it was submitted, read back with pyiceberg."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.message import Message
from reasoner.runs import demo
from reasoner.runs.job_process import write_config
from reasoner.stack import RunningStack, StackSettings
from reasoner.stack.s3 import credentials_file
from state_schemas.contracts.settings import Lake
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.services.job_runs import PLAN, ClusterJob, database, job_config, records_in, shop_messages
from tests.support.reshaped import spread

PARTITIONS = 4


def prepared(stack: RunningStack, name: str, folder: Path) -> tuple[ClusterJob, Path]:
    """Create topics, catalog and tables of a job; return it, not started, and the file of its settings.

    Tables, checkpoints and savepoints are on the S3 server of the stack.
    """
    urls = stack.settings
    jdbc = database(urls.postgres_sqlalchemy_url, urls.postgres_jdbc_url, name)
    engine = {"checkpoint_dir": f"s3://flink/{name}"}
    config = job_config(name, urls.kafka_bootstrap, jdbc, folder, engine=engine)
    config = config.model_copy(update={"lake": Lake.model_validate(lake_on_s3(urls, name, jdbc))})
    job = ClusterJob(config, FlinkRest(urls.flink_rest_url), folder)
    job.prepare(PARTITIONS)
    return job, write_config(config, folder / f"{name}.yaml")


def lake_on_s3(settings: StackSettings, name: str, uri: str) -> dict[str, Any]:
    """Return the section `lake` of a job with its tables on the S3 server of the stack. uri: that of the catalog."""
    s3 = {"endpoint": settings.s3_url, "credentials_file": credentials_file(settings)}
    return {"uri": uri, "warehouse": f"s3://warehouse/{name}", "s3": s3}


def parts(count: int) -> list[list[Message]]:
    """Return the telemetry of the shop in as many parts, in the order of time."""
    messages = list(spread(shop_messages(), PARTITIONS, 1))
    size = -(-len(messages) // count)
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def outcome(job: ClusterJob, sent: Sequence[Message]) -> dict[str, Any]:
    """Return the figures of a job that has ended. Every record counts once, and the planted incident is found alone."""
    counted = records_in(list(sent))
    table = job.table_bodies()
    topic = [record.value for record in job.insight_records()]
    figures = {
        "spans_sent": counted["traces"],
        "spans_in_rollups": job.spans_in_rollups(),
        "severe_lines_sent": counted["severe"],
        "severe_lines_in_patterns": job.severe_lines(),
        "insight_revisions": len(table),
        "dead_letters": len(job.dead_letters()),
        "tables_in": job.config.lake.warehouse,
    }
    assert figures["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, counted["traces"])
    assert figures["severe_lines_in_patterns"] == dict.fromkeys((10, 60), counted["severe"])
    assert not figures["dead_letters"]
    assert sorted(topic) == table
    assert demo.faults(PLAN, last_revisions(topic), last_revisions(table)) == []
    return figures
