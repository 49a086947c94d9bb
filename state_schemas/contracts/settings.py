"""Settings that every reader of the topics and tables needs: Kafka, topics, lake."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]


class BadConfig(ValueError):
    """The settings cannot be used; the message lists everything that is wrong with them."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Topics(Section):
    """Names of the topics. An empty name of a source leaves that signal out."""

    traces: str = "trace_events"
    logs: str = "logs_raw"
    metrics: str = "metrics_rollup"
    insights: Annotated[str, Field(min_length=1)] = "insight_out"
    rejected: Annotated[str, Field(min_length=1)] = "insight_rejected"


class Kafka(Section):
    """start: where to begin without a savepoint. bounded: stop at the end that the topics have at start.

    idle_ms: a partition silent for so long does not hold event time up; 0 waits for ever (recordings).
    guarantee: exactly-once shows insights after each checkpoint; at-least-once at once, with the same ids.
    transaction_timeout_ms: must be under the broker's transaction.max.timeout.ms and over checkpoint time + outage.
    """

    bootstrap_servers: Annotated[str, Field(min_length=1)] = "127.0.0.1:9092"
    group_id: Annotated[str, Field(min_length=1)] = "metric-reasoner"
    topics: Topics = Topics()
    start: Literal["earliest", "latest"] = "earliest"
    bounded: bool = False
    out_of_order_ms: Annotated[int, Field(ge=0, le=99_000, multiple_of=1_000)] = 5_000
    idle_ms: Annotated[int, Field(ge=0)] = 30_000
    guarantee: Literal["exactly-once", "at-least-once"] = "exactly-once"
    transaction_timeout_ms: Positive = 900_000
    properties: dict[str, str] = Field(default_factory=dict)


class Lake(Section):
    """Iceberg catalog over JDBC. uri: `jdbc:sqlite:…` (one process only) or `jdbc:postgresql://…`.

    password_file: a file with the password, so that it stands in no environment and no log.
    """

    uri: Annotated[str, Field(pattern=r"^jdbc:(sqlite|postgresql):.+")]
    warehouse: Annotated[str, Field(pattern=r"^(file|s3|s3a|gs|abfs)://?.+")]
    user: str = ""
    password_file: Path | None = None
    properties: dict[str, str] = Field(default_factory=dict)
