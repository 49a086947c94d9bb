"""Wrong situations of addresses and disks."""

from typing import Final

from tests.situations import doubles
from tests.situations.makers import (
    CHECK_CATALOG,
    CHECK_KAFKA,
    LINE,
    busy_port,
    disk_lake,
    empty_store,
    file,
    lake,
    old_cluster,
    postgres,
    server,
    silent_store,
    store,
)
from tests.situations.situation import Place, Situation

_CLOSED: Final = "reasoner jobs --target http://127.0.0.1:$CLOSED"
_REFUSED: Final = ("does not answer (Connection refused)", "is the cluster up?")
_PAGE: Final = server(lambda stack: doubles.http(stack, {}))
_OTHER: Final = server(lambda stack: doubles.http(stack, {"/jobs/overview": {"data": []}}))
_KAFKA: Final = "reasoner topics create --config job.yaml"
_TABLES: Final = "reasoner tables create --config job.yaml"

# Addresses at which nothing, or another program, answers.
ADDRESSES: Final = (
    Situation("no Flink cluster at the address", _CLOSED, _REFUSED, quick=True),
    Situation(
        "the same, before anything else is looked at",
        "reasoner submit --config job.yaml --no-checks --target http://127.0.0.1:$CLOSED",
        _REFUSED,
    ),
    Situation(
        "a name of a cluster that does not resolve (or no network)",
        "reasoner jobs --target http://flink.invalid:8081",
        ("does not answer (", "is the cluster up?"),
    ),
    Situation(
        "a target that is no address", "reasoner jobs --target 'http://my cluster'", ("expected the REST address",), 2
    ),
    Situation(
        "a dashboard that is not Flink's",
        "reasoner jobs --target http://127.0.0.1:$PORT",
        ("is not Flink's REST API", "expected the address of the JobManager's dashboard"),
        1,
        _PAGE,
        quick=True,
    ),
    Situation(
        "an API that is not Flink's",
        "reasoner status --config job.yaml --target http://127.0.0.1:$PORT",
        ("is not Flink's REST API", "JSON of another program"),
        1,
        _OTHER,
    ),
    Situation(
        "a cluster of another version",
        "reasoner submit --config job.yaml --target http://127.0.0.1:$PORT",
        ("runs Flink 1.20.1, expected 2.2",),
        1,
        old_cluster,
    ),
    Situation(
        "a cluster that accepts and does not answer",
        "reasoner jobs --target http://127.0.0.1:$PORT",
        ("does not answer (timed out)", "is the cluster up?"),
        1,
        server(doubles.silent),
    ),
    Situation(
        "no broker at the address",
        "reasoner insights list --bootstrap 127.0.0.1:$CLOSED",
        ("does not answer as expected (Connection refused)", CHECK_KAFKA),
        quick=True,
    ),
    Situation(
        "a name of a broker that does not resolve (or no network)",
        "reasoner insights tail --bootstrap kafka.invalid:9092",
        ("does not answer as expected (", CHECK_KAFKA),
    ),
    Situation(
        "a broker without a port", "reasoner insights list --bootstrap kafka", ("'kafka' is no address", "host:port"), 2
    ),
    Situation("a broker that closes each connection", _KAFKA, (CHECK_KAFKA,), 1, server(doubles.closing)),
    Situation("a broker that accepts and does not answer", _KAFKA, (CHECK_KAFKA,), 1, server(doubles.silent)),
    Situation(
        "no catalog at the address",
        _TABLES,
        ("Connection refused", CHECK_CATALOG),
        1,
        postgres("127.0.0.1:9"),
        quick=True,
    ),
    Situation(
        "a name of a catalog that does not resolve (or no network)",
        _TABLES,
        ("catalog.invalid", CHECK_CATALOG),
        1,
        postgres("catalog.invalid:5432"),
    ),
    Situation(
        "a catalog that accepts and does not answer", _TABLES, ("timeout", CHECK_CATALOG), 1, server(doubles.silent)
    ),
)

# Places that cannot be written or read.
DISKS: Final = (
    Situation(
        "tables that were not created",
        "reasoner tables maintain --config job.yaml",
        ("has no table latency_rollups", "reasoner tables create"),
    ),
    Situation(
        "patterns of tables that were not created",
        "reasoner insights patterns --config job.yaml",
        ("there is no catalog", "`reasoner tables create` makes it"),
    ),
    Situation(
        "a warehouse under a file",
        _TABLES,
        ("Not a directory", "check lake.warehouse"),
        1,
        lake(warehouse="file:///etc/hosts/warehouse"),
    ),
    Situation(
        "a catalog file that is no database",
        _TABLES,
        ("file is not a database", CHECK_CATALOG),
        1,
        lake("jdbc:sqlite:/etc/hosts"),
    ),
    Situation(
        "a full disk under the warehouse",
        _TABLES,
        ("No space left on device", "check lake.warehouse"),
        1,
        disk_lake,
        "size=16k",
    ),
    Situation(
        "a folder that is read-only",
        "reasoner stack up kafka --folder disk/run",
        ("Read-only file system", "choose a place that can be written"),
        1,
        Place.settings,
        "ro",
    ),
    Situation(
        "a warehouse whose library is not installed",
        _TABLES,
        ("needs the Python package adlfs: pip install adlfs",),
        1,
        lake(warehouse="abfs://container/lake"),
    ),
    Situation(
        "an object store that does not answer",
        _TABLES,
        ("the warehouse s3://bucket/lake", "check lake.warehouse"),
        1,
        lambda place: store(place, "9", "bucket"),
    ),
    Situation(
        "an object store that accepts and does not answer",
        _TABLES,
        ("Timeout was reached", "check lake.warehouse"),
        1,
        silent_store,
    ),
    Situation(
        "a bucket that does not exist",
        _TABLES,
        ("no-such-bucket", "check lake.warehouse, lake.properties"),
        1,
        empty_store,
    ),
    Situation("an output on a full disk", "reasoner graph > /dev/full", ("No space left on device", "free some space")),
    Situation(
        "an output in a folder that is not there",
        "reasoner replay logs.jsonl --out results/insights.jsonl",
        ("No such file or directory", "check the path"),
        1,
        file("logs.jsonl", LINE),
    ),
    Situation(
        "a port that another program uses",
        "reasoner stack up kafka --kafka-port $BUSY",
        ("another program uses port", "choose another port"),
        1,
        busy_port,
    ),
    Situation(
        "`stack down` where nothing was started",
        "reasoner stack down",
        ("nothing was started in", "--folder"),
        0,
        quick=True,
    ),
    Situation(
        "`stack logs` where nothing was started",
        "reasoner stack logs",
        ("start with `reasoner stack up`",),
    ),
)
