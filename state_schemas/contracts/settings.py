"""Settings that every reader of the topics and tables needs: Kafka, topics, lake."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


class ReaderConfig(Section):
    """The part of a job's file that readers of its topics and tables need. name: the prefix of Kafka transactions.

    What the file says of `engine` and `detection` is left to the job, which validates it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,60}$")] = "insights"
    kafka: Kafka = Kafka()
    lake: Lake
    engine: object = None
    detection: object = None


Config = TypeVar("Config", bound=ReaderConfig)


def load(path: Path, kind: type[Config]) -> Config:
    """Read the settings of a YAML file as a ReaderConfig or a subclass of it.

    Raises BadConfig with all faults, each with its place, what was found and what is expected.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        message = f"{path}: cannot be read as YAML: {error}"
        raise BadConfig(message) from error
    try:
        return kind.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        found = [_fault(fault, kind) for fault in error.errors(include_url=False)]
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        message = "\n  ".join([f"{path}: {count}, nothing was done:", *found]) + "\nsee docs/configuration.md"
        raise BadConfig(message) from error


# Pydantic's kinds of fault, and what to say instead of its own sentence.
_EXPECTED: Final = {
    "missing": "expected a value, there is no default",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text (in quotes, where it looks like a number)",
    "string_too_short": "expected text that is not empty",
    "string_pattern_mismatch": "expected text that matches {pattern}",
    "literal_error": "expected {expected}",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "multiple_of": "expected a multiple of {multiple_of}",
    "path_type": "expected the path of a file",
    "model_type": "expected names with values",
    "dict_type": "expected names with values",
}


def expected(fault: Mapping[str, Any]) -> str:
    """Say what is expected instead, for one of pydantic's faults."""
    wording = _EXPECTED.get(fault["type"])
    return wording.format(**fault.get("ctx", {})) if wording else str(fault["msg"])


def _fault(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    place = ".".join(map(str, fault["loc"])) or "(file)"
    if fault["type"] == "missing":
        return f"{place}: found nothing: {expected(fault)}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown name; {_known_name(fault['loc'], kind)}"
    return f"{place}: found {fault['input']!r:.80}: {expected(fault)}"


def _known_name(place: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    section: Any = kind
    for name in place[:-1]:
        section = section.model_fields[name].annotation
    names = sorted(section.model_fields)
    near = get_close_matches(str(place[-1]), names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
