"""Wrong situations that need no engine: use, settings, addresses, disks, files and terminals."""

import gzip
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.situations import doubles
from tests.situations.situation import INTERRUPTED, Place, Situation

LINE: Final = (
    b'{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"k\xc3\xbcche"}}]},'
    b'"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000000","severityNumber":17,'
    b'"body":{"stringValue":"Ofen zu hei\xc3\x9f"}}]}]}]}\n'
)
CHECK_KAFKA: Final = "check kafka.bootstrap_servers"
CHECK_CATALOG: Final = "check lake.uri, lake.user, lake.password_file"


def settings_file(content: bytes) -> Callable[[Place], None]:
    """Return a maker of `job.yaml` with this content."""
    return lambda place: place.file("job.yaml", content)


def settings(**sections: Any) -> Callable[[Place], None]:
    return lambda place: place.settings(**sections)


def lake(uri: str = "jdbc:sqlite:catalog.db", warehouse: str = "", **more: Any) -> Callable[[Place], None]:
    """Return a maker of settings with this catalog."""

    def made(place: Place) -> None:
        target = warehouse or f"file://{place.folder}/warehouse"
        place.settings(lake={"uri": uri, "warehouse": target, **more})

    return made


def file(name: str, content: bytes) -> Callable[[Place], None]:
    """Return a maker of settings and of a file beside them."""

    def made(place: Place) -> None:
        place.settings()
        place.file(name, content)

    return made


def server(double: Callable[[Any], str]) -> Callable[[Place], None]:
    """Return a maker of settings whose broker and catalog are at a server that is none."""

    def made(place: Place) -> None:
        port = place.values["PORT"] = double(place.stack)
        place.settings(
            kafka={"bootstrap_servers": f"127.0.0.1:{port}"},
            lake={"uri": f"jdbc:postgresql://127.0.0.1:{port}/lake", "warehouse": f"file://{place.folder}/warehouse"},
        )

    return made


def without_modules(*names: str) -> Callable[[Place], None]:
    """Return a maker of an installation that lacks these modules."""

    def made(place: Place) -> None:
        place.settings()
        packages, commands = place.folder / "packages", place.folder / "bin"
        packages.mkdir()
        commands.mkdir()
        (installed,) = {Path(path) for path in sys.path if path.endswith("site-packages")}
        for module in installed.iterdir():
            if module.name not in names and module.suffix != ".pth":
                (packages / module.name).symlink_to(module)
        program = commands / "reasoner"
        call = "from reasoner.cli import main; main()"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -c "{call}" "$@"\n')
        program.chmod(0o755)
        root = Path(__file__).parents[2]
        place.environ |= {"PYTHONPATH": f"{packages}:{root}"}
        place.values["BIN"] = str(commands)

    return made


def long_recording(place: Place) -> None:
    place.file("long.jsonl", LINE * 200_000)


def without_tools(place: Place) -> None:
    place.settings()
    (place.folder / "tools").mkdir()
    place.environ["REASONER_TOOLS"] = str(place.folder / "tools")


def busy_port(place: Place) -> None:
    place.values["BUSY"] = doubles.silent(place.stack)


def empty_bucket(place: Place) -> None:
    """Make settings of a warehouse in a bucket that the object store does not have."""
    unknown = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
    port = place.values["PORT"] = doubles.http(place.stack, {}, unknown)
    keys = {"s3.access-key-id": "key", "s3.secret-access-key": "secret", "s3.region": "eu-central-1"}
    properties = {"s3.endpoint": f"http://127.0.0.1:{port}", **keys}
    lake(warehouse="s3://no-such-bucket/lake", properties=properties)(place)


def typed_wrong() -> Iterable[Situation]:
    """Yield commands that cannot work as they were typed."""
    yield Situation("a command that does not exist", "reasoner submitt", ("did you mean submit?",), 2, quick=True)
    yield Situation("an option that does not exist", "reasoner jobs --targt x", ("--targt", "--target"), 2)
    yield Situation("an option is missing", "reasoner topics create", ("Missing option '--config'",), 2)
    yield Situation(
        "a job that does not exist",
        "reasoner submit latency --config job.yaml",
        ("unknown job 'latency'", "did you mean latency-spikes?"),
        2,
    )
    yield Situation(
        "a component that does not exist", "reasoner stack up kafcka", ("did you mean kafka?",), 2, quick=True
    )
    yield Situation(
        "a port that is no number", "reasoner stack up kafka --kafka-port abc", ("'abc'", "expected a whole number"), 2
    )
    yield Situation(
        "a kind of insight that does not exist",
        "reasoner insights list --kind latency_spikes",
        ("--kind is 'latency_spikes'; did you mean latency_spike?",),
        2,
        quick=True,
    )
    yield Situation("a time span without a unit", "reasoner insights list --since 30", ("'30'", "such as 30m"), 2)
    yield Situation(
        "a savepoint and the beginning of the topics",
        "reasoner submit --config job.yaml --savepoint latest --from-start --target 127.0.0.1:$CLOSED",
        ("--savepoint and --from-start", "expected one of them"),
        2,
    )
    yield Situation(
        "the latest savepoint, where none was taken",
        "reasoner submit --config job.yaml --savepoint latest --target 127.0.0.1:$CLOSED",
        ("no savepoint of insights", "give its path"),
        2,
    )
    yield Situation(
        "the extra `job` is not installed",
        "$BIN/reasoner submit --config job.yaml",
        ("needs the extra `job`", "pip install 'metric-reasoner[job]'"),
        2,
        without_modules("pyflink"),
        quick=True,
    )
    yield Situation(
        "no JDK, or no `make setup`",
        "reasoner stack up kafka",
        ("is missing or incomplete: run `make setup`",),
        1,
        without_tools,
        quick=True,
    )


def in_settings() -> Iterable[Situation]:
    """Yield settings that cannot be used. Each command reads them in the same way."""
    topics = "reasoner topics create --config job.yaml"
    yield Situation(
        "a settings file that is not there (another working directory)",
        topics,
        ("job.yaml: No such file or directory in", "expected the YAML file of a job"),
        2,
        lambda place: None,
        quick=True,
    )
    yield Situation("a settings file that is a folder", "reasoner topics create --config .", ("Is a directory",), 2)
    tab = b"lake:\n\turi: jdbc:sqlite:c.db\n"
    yield Situation(
        "bad YAML", topics, ("line 2, column 1: is no YAML", "indent by spaces"), 2, settings_file(tab), quick=True
    )
    yield Situation(
        "a settings file that is not UTF-8",
        topics,
        ("byte 0xe4", "save the file as UTF-8"),
        2,
        settings_file(b"name: k\xe4se"),
    )
    yield Situation("an empty settings file", topics, ("lake: found nothing: expected a value",), 2, settings_file(b""))
    yield Situation(
        "an unknown setting",
        topics,
        ("kafka.bootstrap_server: unknown name; did you mean bootstrap_servers?",),
        2,
        settings(kafka={"bootstrap_server": "kafka:9092"}),
        quick=True,
    )
    yield Situation(
        "settings of a wrong type, all at once",
        "reasoner doctor --config job.yaml",
        ("2 faults", "engine.parallelism: found 'two': expected a whole number", "kafka.bounded", "true or false"),
        2,
        settings(engine={"parallelism": "two"}, kafka={"bounded": "perhaps"}),
    )
    yield Situation(
        "a file of the password that is not there",
        "reasoner tables create --config job.yaml",
        ("lake.password_file: secret cannot be read", "expected a file with the password"),
        1,
        lake("jdbc:postgresql://127.0.0.1:5432/lake", password_file="secret"),
    )


def addresses() -> Iterable[Situation]:
    """Yield addresses at which nothing, or another program, answers."""
    closed = "reasoner jobs --target http://127.0.0.1:$CLOSED"
    refused = ("does not answer (Connection refused)", "is the cluster up?")
    yield Situation("no Flink cluster at the address", closed, refused, quick=True)
    yield Situation(
        "the same, before anything else is looked at",
        "reasoner submit --config job.yaml --no-checks --target http://127.0.0.1:$CLOSED",
        refused,
    )
    yield Situation(
        "a name of a cluster that does not resolve (or no network)",
        "reasoner jobs --target http://flink.invalid:8081",
        ("does not answer (", "is the cluster up?"),
    )
    yield Situation(
        "a target that is no address", "reasoner jobs --target 'http://my cluster'", ("expected the REST address",), 2
    )
    page = server(lambda stack: doubles.http(stack, {}))
    yield Situation(
        "a dashboard that is not Flink's",
        "reasoner jobs --target http://127.0.0.1:$PORT",
        ("is not Flink's REST API", "expected the address of the JobManager's dashboard"),
        1,
        page,
        quick=True,
    )
    other = server(lambda stack: doubles.http(stack, {"/jobs/overview": {"data": []}}))
    yield Situation(
        "an API that is not Flink's",
        "reasoner status --config job.yaml --target http://127.0.0.1:$PORT",
        ("is not Flink's REST API", "JSON of another program"),
        1,
        other,
    )
    yield Situation(
        "a cluster of another version",
        "reasoner submit --config job.yaml --target http://127.0.0.1:$PORT",
        ("runs Flink 1.20.1, expected 2.2",),
        1,
        old_cluster,
    )
    yield Situation(
        "a cluster that accepts and does not answer",
        "reasoner jobs --target http://127.0.0.1:$PORT",
        ("does not answer (timed out)", "is the cluster up?"),
        1,
        server(doubles.silent),
    )
    yield Situation(
        "no broker at the address",
        "reasoner insights list --bootstrap 127.0.0.1:$CLOSED",
        ("does not answer as expected (Connection refused)", CHECK_KAFKA),
        quick=True,
    )
    yield Situation(
        "a name of a broker that does not resolve (or no network)",
        "reasoner insights tail --bootstrap kafka.invalid:9092",
        ("does not answer as expected (", CHECK_KAFKA),
    )
    yield Situation(
        "a broker without a port", "reasoner insights list --bootstrap kafka", ("'kafka' is no address", "host:port"), 2
    )
    kafka = "reasoner topics create --config job.yaml"
    yield Situation("a broker that closes each connection", kafka, (CHECK_KAFKA,), 1, server(doubles.closing))
    yield Situation("a broker that accepts and does not answer", kafka, (CHECK_KAFKA,), 1, server(doubles.silent))
    tables = "reasoner tables create --config job.yaml"
    yield Situation(
        "no catalog at the address",
        tables,
        ("Connection refused", CHECK_CATALOG),
        1,
        postgres("127.0.0.1:9"),
        quick=True,
    )
    yield Situation(
        "a name of a catalog that does not resolve (or no network)",
        tables,
        ("catalog.invalid", CHECK_CATALOG),
        1,
        postgres("catalog.invalid:5432"),
    )
    yield Situation(
        "a catalog that accepts and does not answer", tables, ("timeout", CHECK_CATALOG), 1, server(doubles.silent)
    )


def old_cluster(place: Place) -> None:
    place.settings()
    place.values["PORT"] = doubles.http(place.stack, doubles.FLINK_1_20)
    kafka = {"bootstrap_servers": "127.0.0.1:9", "properties": {"client.id": "x"}}
    place.settings(kafka=kafka)


def postgres(address: str) -> Callable[[Place], None]:
    return lake(f"jdbc:postgresql://{address}/lake")


def disks() -> Iterable[Situation]:
    """Yield places that cannot be written or read."""
    tables = "reasoner tables create --config job.yaml"
    yield Situation(
        "tables that were not created",
        "reasoner tables maintain --config job.yaml",
        ("has no table latency_rollups", "reasoner tables create"),
    )
    yield Situation(
        "patterns of tables that were not created",
        "reasoner insights patterns --config job.yaml",
        ("there is no catalog", "`reasoner tables create` makes it"),
    )
    yield Situation(
        "a warehouse under a file",
        tables,
        ("Not a directory", "check lake.warehouse"),
        1,
        lake(warehouse="file:///etc/hosts/warehouse"),
    )
    yield Situation(
        "a catalog file that is no database",
        tables,
        ("file is not a database", CHECK_CATALOG),
        1,
        lake("jdbc:sqlite:/etc/hosts"),
    )
    yield Situation(
        "a full disk under the warehouse",
        tables,
        ("No space left on device", "check lake.warehouse"),
        1,
        disk_lake,
        "size=16k",
    )
    yield Situation(
        "a folder that is read-only",
        "reasoner stack up kafka --folder disk/run",
        ("Read-only file system", "choose a place that can be written"),
        1,
        Place.settings,
        "ro",
    )
    yield Situation(
        "a warehouse whose library is not installed",
        tables,
        ("needs the Python package adlfs: pip install adlfs",),
        1,
        lake(warehouse="abfs://container/lake"),
    )
    endpoint = {"s3.endpoint": "http://127.0.0.1:9", "s3.access-key-id": "k", "s3.secret-access-key": "s"}
    yield Situation(
        "an object store that does not answer",
        tables,
        ("the warehouse s3://bucket/lake", "check lake.warehouse"),
        1,
        lake(warehouse="s3://bucket/lake", properties={**endpoint, "s3.region": "eu-central-1"}),
    )
    yield Situation(
        "a bucket that does not exist",
        tables,
        ("no-such-bucket", "check lake.warehouse, lake.properties"),
        1,
        empty_bucket,
    )
    yield Situation(
        "an output on a full disk", "reasoner graph > /dev/full", ("No space left on device", "free some space")
    )
    yield Situation(
        "an output in a folder that is not there",
        "reasoner replay logs.jsonl --out results/insights.jsonl",
        ("No such file or directory", "check the path"),
        1,
        file("logs.jsonl", LINE),
    )
    yield Situation(
        "a port that another program uses",
        "reasoner stack up kafka --kafka-port $BUSY",
        ("another program uses port", "choose another port"),
        1,
        busy_port,
    )
    yield Situation(
        "`stack down` in another folder", "reasoner stack down", ("nothing was started in", "--folder"), 0, quick=True
    )
    yield Situation("`stack logs` in another folder", "reasoner stack logs", ("start with `reasoner stack up`",))


def disk_lake(place: Place) -> None:
    place.settings(lake={"uri": f"jdbc:sqlite:{place.folder}/c.db", "warehouse": f"file://{place.folder}/disk/lake"})


def recordings() -> Iterable[Situation]:
    """Yield files that are no recordings."""
    text = b"2026-06-11 09:14:22 ERROR the oven is cold\n"
    jaeger = json.dumps([{"traceID": "1", "operationName": "GET", "spans": []}]).encode()
    yield Situation(
        "a recording that is not there", "reasoner replay recordings", ("no such file or folder; expected",), 2
    )
    yield Situation(
        "a folder of recordings without files",
        "reasoner replay empty",
        ("holds no file; expected OTLP",),
        2,
        lambda place: (place.folder / "empty").mkdir(),
    )
    yield Situation(
        "a file that is no OTLP",
        "reasoner replay oven.log",
        ("raw text, expected an OTLP", "expected files of the"),
        1,
        file("oven.log", text),
    )
    yield Situation(
        "a recording of Jaeger",
        "reasoner replay traces.json",
        ("Jaeger JSON, expected an OTLP",),
        1,
        file("traces.json", jaeger),
    )
    yield Situation(
        "a recording that is cut off",
        "reasoner explain logs.jsonl.gz",
        ("cannot be read", "record it again or cut it"),
        2,
        file("logs.jsonl.gz", gzip.compress(LINE * 9, mtime=0)[:-12]),
    )
    yield Situation(
        "`explain` of a file that is no OTLP",
        "reasoner explain oven.log",
        ("no message of it is OTLP; expected",),
        1,
        file("oven.log", text),
    )
    yield Situation("`explain` of a folder", "reasoner explain .", ("is a folder; expected a file",), 2)
    yield Situation(
        "an evaluation without its data",
        "reasoner evaluate nezha --data .",
        ("no faults.json; expected the folder",),
        2,
    )


def terminals() -> Iterable[Situation]:
    """Yield outputs that end early, and terminals that cannot show them."""
    yield Situation("a reader that has read enough", "reasoner graph | head -1", ("STEP",), 0)
    many = file("logs.jsonl", LINE * 5_000)
    yield Situation(
        "the same, of a long output", "reasoner explain logs.jsonl | head -1", ("log record of küche",), 1, many
    )
    yield Situation(
        "a terminal that is not UTF-8",
        "PYTHONIOENCODING=ascii reasoner explain logs.jsonl",
        ("k\\xfcche", "hei\\xdf"),
        0,
        file("logs.jsonl", LINE),
        quick=True,
    )
    yield Situation(
        "Ctrl-C of `explain`",
        "reasoner explain long.jsonl",
        (),
        INTERRUPTED,
        long_recording,
        interrupt_when="/long.jsonl",
    )
    yield Situation(
        "Ctrl-C of `replay`",
        "reasoner replay long.jsonl --out insights",
        (),
        INTERRUPTED,
        long_recording,
        interrupt_when="/long.jsonl",
    )


ROWS: Final = (
    *typed_wrong(),
    *in_settings(),
    *addresses(),
    *disks(),
    *recordings(),
    *terminals(),
)
