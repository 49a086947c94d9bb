"""Settings that every reader of the topics and tables needs: Kafka, topics, lake."""

import configparser
from collections.abc import Mapping, Sized
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

Positive = Annotated[int, Field(gt=0)]
Catalog = Literal["jdbc", "rest", "glue"]
CHECKPOINT_INTERVAL_MS: Final = 30_000  # default; exactly-once insights become visible with each checkpoint


_WAREHOUSES: Final = ("file:///", "s3://", "s3a://", "gs://", "abfs://")
_CATALOGS: Final[Mapping[Catalog, str]] = {"jdbc": "JDBC", "rest": "REST", "glue": "Glue"}
# Setting -> the one kind of catalog that reads it.
_OF_CATALOG: Final[Mapping[str, Catalog]] = {
    "user": "jdbc",
    "password_file": "jdbc",
    "token_file": "rest",
    "credential_file": "rest",
}
_AWS_KEYS: Final = {"aws_access_key_id": "s3.access-key-id", "aws_secret_access_key": "s3.secret-access-key"}


class BadConfig(ValueError):
    """Settings that cannot be used; the message lists all faults."""


class Section(BaseModel):
    """A section of the YAML file. Unknown names are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Topics(Section):
    """Names of the Kafka topics. With an empty name of a source, the job does not read that signal."""

    # Source of trace requests.
    traces: str = "trace_events"
    # Source of logs requests.
    logs: str = "logs_raw"
    # Source of metrics requests.
    metrics: str = "metrics_rollup"
    # Source of sequence rules, compacted: a record for each version of a rule, with the id as its key. Without it rules
    # come from `detection.rules` alone.
    rules: str = ""
    # Sink of insights.
    insights: Annotated[str, Field(min_length=1)] = "insight_out"
    # Sink of dead letters.
    rejected: Annotated[str, Field(min_length=1)] = "insight_rejected"


class Kafka(Section):
    """Settings of the Kafka sources and sinks."""

    # Addresses of the brokers, host:port, separated by commas.
    bootstrap_servers: Annotated[str, Field(min_length=1)] = "127.0.0.1:9092"
    # Consumer group of the sources.
    group_id: Annotated[str, Field(min_length=1)] = "metric-reasoner"
    # Names of the topics.
    topics: Topics = Topics()
    # Offset at which the job starts without a savepoint. `committed`: that of the last checkpoint of the group, so that
    # nothing is counted twice; the earliest one where the group has none.
    start: Literal["committed", "earliest", "latest"] = "committed"
    # Whether the job ends at the end that the topics have when it starts.
    bounded: bool = False
    # Milliseconds between the newest Kafka timestamp of a partition and its watermark; whole seconds.
    out_of_order_ms: Annotated[int, Field(ge=0, le=99_000, multiple_of=1_000)] = 5_000
    # Milliseconds without messages after which a partition does not hold event time back; 0: always wait (recordings).
    # A bounded job always waits.
    idle_ms: Annotated[int, Field(ge=0)] = 30_000
    # exactly-once: insights are visible after each checkpoint. at-least-once: at once, with the same ids.
    guarantee: Literal["exactly-once", "at-least-once"] = "exactly-once"
    # Milliseconds after which the broker aborts a transaction that is not committed; what is in it is lost for readers
    # of the topic. At most the broker's transaction.max.timeout.ms. At least the longer of interval and timeout of
    # checkpoints (for so long a transaction is written), plus that timeout (until its commit), plus `outage_ms`.
    transaction_timeout_ms: Positive = 900_000
    # Milliseconds for which the job may be down without the loss of insights that wait for their commit.
    outage_ms: Annotated[int, Field(ge=0)] = 300_000
    # Further properties of the Kafka client; they override `bootstrap_servers`.
    properties: dict[str, str] = Field(default_factory=dict)


class S3(Section):
    """Settings of a warehouse on S3, or on a store with the interface of S3."""

    # Address of a store other than AWS, such as http://127.0.0.1:7070; "" for AWS.
    endpoint: Annotated[str, Field(pattern=r"^$|^https?://[^/]+")] = ""
    # Region of the bucket; "" for us-east-1 where there is an endpoint, else for what AWS's own tools would take.
    region: str = ""
    # File with a profile `[default]`: aws_access_key_id, aws_secret_access_key. Without it the keys come as for AWS's
    # own tools: from the environment, their files, or the role of the machine.
    credentials_file: Path | None = None

    def keys(self) -> dict[str, str]:
        """Return the keys of the file by the names of Iceberg's properties. Raises BadConfig if they cannot be read."""
        if self.credentials_file is None:
            return {}
        profile = configparser.ConfigParser(interpolation=None, default_section="")
        text = secret_in("lake.s3.credentials_file", self.credentials_file, "a file with the keys of a profile")
        try:
            profile.read_string(text)
            found = profile["default"]
            keys = {name: found[key] for key, name in _AWS_KEYS.items()}
        except (configparser.Error, KeyError) as error:
            # The message of a parser has the line that it did not understand, which can be a key.
            message = (
                f"lake.s3.credentials_file: {self.credentials_file} has no profile that can be read "
                f"({type(error).__name__}); expected [default] with {' and '.join(_AWS_KEYS)}"
            )
            raise BadConfig(message) from None
        return keys | ({"s3.session-token": found["aws_session_token"]} if "aws_session_token" in found else {})


class Lake(Section):
    """Settings of the Iceberg catalog and of the warehouse behind it."""

    # Address of the catalog: `jdbc:sqlite:…` (for a single process only), `jdbc:postgresql://…`, `https://…` of an
    # Iceberg REST catalog, or `glue:REGION` of AWS.
    uri: Annotated[str, Field(pattern=r"^(jdbc:(sqlite|postgresql):.+|https?://.+|glue:[a-z0-9-]+)$")]
    # Folder (absolute) or bucket of the data files; of a REST catalog the name by which it knows its warehouse.
    warehouse: str
    # User of the database; "" for none.
    user: str = ""
    # File that contains the password, so that no environment variable and no log contains it.
    password_file: Path | None = None
    # File that contains the bearer token for a REST catalog.
    token_file: Path | None = None
    # File that contains `client-id:client-secret`, with which a REST catalog or its OAuth2 server gives a token.
    credential_file: Path | None = None
    # Where the warehouse is on S3.
    s3: S3 = S3()
    # Further properties of the Iceberg catalog, such as io-impl.
    properties: dict[str, str] = Field(default_factory=dict)

    @field_validator("uri")
    @classmethod
    def _without_secret(cls, value: str) -> str:
        if _catalog_at(value) == "rest" and "@" in urlsplit(value).netloc:
            message = "lake.uri: found a user or password in it, expected lake.token_file or lake.credential_file"
            raise ValueError(message)
        return value

    @field_validator("warehouse")
    @classmethod
    def _warehouse_of_its_catalog(cls, value: str, found: ValidationInfo) -> str:
        folder = next((value.removeprefix(begin) for begin in _WAREHOUSES if value.startswith(begin)), "")
        kind = _kind(found)
        is_name = kind == "rest" or (kind is None and "://" not in value)
        if is_name or (folder and folder[0] != "/"):
            return value
        message = f"lake.warehouse: found {value!r:.80}: expected {', '.join(_WAREHOUSES)} with a name behind it"
        raise ValueError(message)

    @field_validator("user", "password_file", "token_file", "credential_file", "s3")
    @classmethod
    def _used_by_its_catalog(cls, value: Any, found: ValidationInfo) -> Any:
        """Refuse a secret that the catalog would not read, and S3 for a warehouse elsewhere."""
        name, kind = str(found.field_name), _kind(found)
        if kind is None or value == cls.model_fields[name].default:
            return value
        if name == "s3" and kind == "glue" and value.credentials_file:
            message = (
                "lake.s3.credentials_file: found one with a catalog of Glue, which takes its keys from the "
                "environment, the files of AWS's own tools, or a role: name the file with AWS_SHARED_CREDENTIALS_FILE"
            )
            raise ValueError(message)
        warehouse = str(found.data.get("warehouse", ""))
        if name == "s3" and kind == "jdbc" and warehouse and not warehouse.startswith(("s3://", "s3a://")):
            message = f"lake.s3: found settings of S3 with the warehouse {warehouse}, expected s3://…"
            raise ValueError(message)
        wanted = _OF_CATALOG.get(name, kind)
        if wanted != kind:
            message = (
                f"lake.{name}: found it with a {_CATALOGS[kind]} catalog; only a {_CATALOGS[wanted]} catalog reads it"
            )
            raise ValueError(message)
        return value

    @property
    def catalog(self) -> Catalog:
        """Return the kind of the catalog, which its address says."""
        return _catalog_at(self.uri)

    @property
    def place(self) -> str:
        """Return the address of the catalog without its parameters, which can hold a password."""
        return self.uri.partition("?")[0]

    def shared_properties(self) -> dict[str, str]:
        """Return the properties that Iceberg's Java and Python know by the same names, secrets included.

        Raises BadConfig where a file of a secret cannot be read.
        """
        region = self.uri.removeprefix("glue:") if self.catalog == "glue" else self.s3.region
        region = region or ("us-east-1" if self.s3.endpoint else "")
        properties = {
            "s3.endpoint": self.s3.endpoint,
            # A store at an address of its own has its buckets behind that address, not in names below it.
            "s3.path-style-access": "true" if self.s3.endpoint else "",
            "client.region": region,
            **self.s3.keys(),
            "token": self._secret("token_file", "a file with the bearer token"),
            # Both clients are about to drop their own default, which is this address.
            "oauth2-server-uri": f"{self.uri.rstrip('/')}/v1/oauth/tokens" if self.credential_file else "",
            "credential": self._secret("credential_file", "a file with client-id:client-secret"),
        }
        return {name: value for name, value in properties.items() if value}

    def password(self) -> str:
        """Return the password of the database, "" for none. Raises BadConfig where its file cannot be read."""
        return self._secret("password_file", "a file with the password")

    def _secret(self, name: str, wanted: str) -> str:
        path = getattr(self, name)
        return secret_in(f"lake.{name}", path, wanted) if path else ""


def secret_in(name: str, path: Path, wanted: str) -> str:
    """Return the text of a file that holds a secret. Raises BadConfig if it cannot be read."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        message = f"{name}: {path} cannot be read ({reason}); expected {wanted}"
        raise BadConfig(message) from None


def _catalog_at(uri: str) -> Catalog:
    return "jdbc" if uri.startswith("jdbc:") else "glue" if uri.startswith("glue:") else "rest"


def _kind(found: ValidationInfo) -> Catalog | None:
    """Return the kind of the catalog of settings that are being validated; None where its address is wrong."""
    uri = found.data.get("uri")
    return _catalog_at(uri) if uri else None


class Links(Section):
    """Addresses that are printed with an insight; names in braces are replaced. With an empty one none is printed."""

    # Of a trace in Grafana, Tempo or Jaeger: {trace_id}, and those of `logs`.
    trace: Annotated[str, Field(pattern=r"^$|^https?://.*\{trace_id\}")] = ""
    # Of the logs of a service: {env}, {namespace}, {service}, {from_ms}, {to_ms}.
    logs: Annotated[str, Field(pattern=r"^$|^https?://.*\{service\}")] = ""


class ReaderConfig(Section):
    """The part of a job's settings that readers of its topics and tables need.

    Readers do not validate `engine` and `detection`; the job does.
    """

    # Name of the job and prefix of its Kafka transactions.
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,60}$")] = "insights"
    kafka: Kafka = Kafka()
    lake: Lake
    links: Links = Links()
    engine: object = None
    detection: object = None

    @property
    def checkpoint_interval_ms(self) -> int:
        """Return `engine.checkpoint_interval_ms`, of which readers need to know when messages become visible."""
        found = self.engine.get("checkpoint_interval_ms") if isinstance(self.engine, dict) else None
        return found if isinstance(found, int) else CHECKPOINT_INTERVAL_MS


NOTHING_DONE: Final = "nothing was done:"  # the faults of the settings follow
Config = TypeVar("Config", bound=ReaderConfig)


def load(path: Path, kind: type[Config]) -> Config:
    """Return the settings of a YAML file as a ReaderConfig or a subclass of it.

    Raises BadConfig with all faults, each with its position, the value found and the value expected.
    """
    return parsed(_text(path), str(path), kind)


def parsed(text: str, place: str, kind: type[Config]) -> Config:
    """Return the settings in a YAML text, as `load` does. place: where it comes from, for messages."""
    raw = _yaml(text, place)
    try:
        return kind.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        found = [_fault(fault, kind) for fault in error.errors(include_url=False)]
        message = "\n  ".join([f"{place}: {counted(found)}, {NOTHING_DONE}", *found]) + "\nsee docs/configuration.md"
        raise BadConfig(message) from error


def counted(faults: Sized) -> str:
    """Return how many faults there are, as messages say it."""
    return "1 fault" if len(faults) == 1 else f"{len(faults)} faults"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        message = f"{path}: {error.strerror}{where}; expected the YAML file of a job, see docs/configuration.md"
        raise BadConfig(message) from error
    except UnicodeDecodeError as error:
        found = f"found byte 0x{error.object[error.start]:02x} at position {error.start}"
        message = f"{path}: is not UTF-8: {found}; save the file as UTF-8"
        raise BadConfig(message) from error


def _yaml(text: str, place: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        message = f"{place}{position}: is no YAML: {error.problem or error.context}; indent by spaces, `name: value`"
        raise BadConfig(message) from error
    except yaml.YAMLError as error:
        message = f"{place}: is no YAML: {str(error).partition(chr(10))[0]}"
        raise BadConfig(message) from error


# Type of a pydantic fault -> the sentence that replaces pydantic's own.
_EXPECTED: Final = {
    "missing": "expected a value, there is no default",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text (in quotes, if it looks like a number)",
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
    "list_type": "expected a list",
    "too_short": "expected at least {min_length} of them",
    "too_long": "expected at most {max_length} of them",
    "string_too_long": "expected at most {max_length} characters",
    "timezone_aware": "expected a time with its zone, such as 2026-01-31T12:00:00Z",
    "datetime_from_date_parsing": "expected a time such as 2026-01-31T12:00:00Z",
    "datetime_type": "expected a time such as 2026-01-31T12:00:00Z",
}


def expected(fault: Mapping[str, Any]) -> str:
    """Return the expected value of one of pydantic's faults as a sentence."""
    wording = _EXPECTED.get(fault["type"])
    return wording.format(**fault.get("ctx", {})) if wording else str(fault["msg"])


def _fault(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    place = ".".join(map(str, fault["loc"])) or "(file)"
    if fault["type"] == "missing":
        return f"{place}: found nothing: {expected(fault)}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown name; {known_name(fault['loc'], kind)}"
    if fault["type"] == "value_error":  # a check over several settings, whose text says all
        return str(fault["ctx"]["error"])
    return f"{place}: found {fault['input']!r:.80}: {expected(fault)}"


def known_name(place: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Return what an unknown name may have meant; place: its path in the settings, without numbers of lists."""
    section: Any = kind
    for name in place[:-1]:
        section = _model_in(section.model_fields[name].annotation)
    names = sorted(section.model_fields)
    near = get_close_matches(str(place[-1]), names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _model_in(annotation: Any) -> Any:
    """Return the model in the type of a field: the field itself, or what is in its list or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
