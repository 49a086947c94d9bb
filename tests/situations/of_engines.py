"""Wrong situations of a real broker, catalog and cluster."""

from typing import Final

from tests.situations.engine_makers import (
    TITLE,
    catalog,
    fresh,
    job,
    kafka,
    leaderless,
    slow_broker,
    with_insight,
    with_lake,
    with_tables,
    without_sink,
)
from tests.situations.makers import CHECK_CATALOG, CHECK_KAFKA
from tests.situations.situation import INTERRUPTED, Situation

_SHOW: Final = "reasoner insights list --config job.yaml"
_TABLES: Final = "reasoner tables create --config job.yaml"
_AT: Final = "--config job.yaml --target $FLINK"
_SUBMIT: Final = f"reasoner submit latency-spikes {_AT}"
_OTHER: Final = {"name": "other"}
_MISSING: Final = {"io-impl": "org.example.Missing"}

BROKERS: Final = (
    Situation("a topic that does not exist", _SHOW, ("has no topic", "reasoner topics create"), 1, kafka()),
    Situation("a broker whose answers take 12 s", _SHOW, (CHECK_KAFKA,), 1, slow_broker),
    Situation(
        "a topic without a leader",
        _SHOW,
        ("has no leader for partition 0", "start the broker"),
        1,
        leaderless,
        seconds_max=60.0,
    ),
    Situation(
        "an insight that does not exist",
        "reasoner insights show 0000 --config job.yaml",
        ("no insight 0000 among", "`reasoner insights list` shows the ids"),
        1,
        with_insight,
    ),
    Situation(
        "Ctrl-C of `insights tail`",
        "reasoner insights tail --config job.yaml",
        (TITLE,),
        INTERRUPTED,
        with_insight,
        interrupt_when=TITLE,
    ),
    Situation("a user that the catalog does not know", _TABLES, ('"nobody"', CHECK_CATALOG), 1, catalog("nobody")),
    Situation("a database that does not exist", _TABLES, ('"pond"', CHECK_CATALOG), 1, catalog(database="pond")),
    Situation(
        "a catalog with another password",
        _TABLES,
        ("password authentication failed", CHECK_CATALOG),
        1,
        catalog("guarded", "guarded", "wrong"),
    ),
    Situation(
        "Ctrl-C of `tables maintain`",
        "reasoner tables maintain --config job.yaml",
        (),
        INTERRUPTED,
        with_tables,
        interrupt_when="/catalog.db",
    ),
    Situation(
        "Ctrl-C of `stack up`",
        "reasoner stack up kafka --kafka-port auto --kafka-controller-port auto",
        (),
        INTERRUPTED,
        lambda place: None,
        interrupt_when="/.run/lock",
    ),
)

CLUSTERS: Final = (
    Situation(
        "topics and tables that were not created",
        f"reasoner submit {_AT}",
        ("has no topic", "has no table", "reasoner topics create", "reasoner tables create"),
        1,
        fresh,
    ),
    Situation("a job whose name runs already", _SUBMIT, ("is RUNNING on", "stop it with `reasoner stop"), 1, job()),
    Situation(
        "more parallelism than slots",
        _SUBMIT,
        ("free slots, expected 40", "add TaskManagers, or lower it"),
        1,
        job(_OTHER, parallelism=40),
    ),
    Situation(
        "a savepoint that does not exist",
        f"{_SUBMIT} --savepoint file:///no/savepoint",
        ("check the path",),
        1,
        job(_OTHER),
        seconds_max=90.0,
    ),
    Situation(
        "the latest savepoint, where the job has not run",
        f"{_SUBMIT} --savepoint latest",
        ("found no place where other ended", "give a path"),
        2,
        job(_OTHER),
    ),
    Situation(
        "a savepoint of another job",
        f"reasoner submit error-patterns {_AT} --savepoint $SAVEPOINT",
        ("has the same stages",),
        1,
        job({"name": "patterns"}),
        seconds_max=90.0,
    ),
    Situation(
        "another max_parallelism than that of the savepoint",
        f"{_SUBMIT} --savepoint $SAVEPOINT",
        ("set engine.max_parallelism as it was",),
        1,
        job(_OTHER, max_parallelism=8),
        seconds_max=90.0,
    ),
    Situation(
        "a class of the catalog that is not installed",
        f"reasoner submit {_AT} --no-checks",
        ("did not take the job",),
        1,
        with_lake({"properties": _MISSING}),
        seconds_max=90.0,
    ),
    Situation(
        "the same on a mini-cluster",
        "reasoner submit --config job.yaml --no-checks",
        ("the job has ended with code 1", "see "),
        1,
        with_lake({"properties": _MISSING}),
        seconds_max=90.0,
    ),
    Situation(
        "Ctrl-C of `submit` with a mini-cluster",
        "reasoner submit latency-spikes --config job.yaml",
        (),
        INTERRUPTED,
        job(_OTHER),
        interrupt_when="the job runs until Ctrl-C",
    ),
    Situation(
        "a job that does not run",
        "reasoner stop cart --target $FLINK",
        ("no job named cart runs", "`reasoner jobs` lists them"),
        1,
        job(),
    ),
    Situation(
        "a folder in which the cluster cannot write",
        "reasoner savepoint situations --target $FLINK --folder file:///proc/no",
        ("savepoint of", "see the JobManager's log"),
        1,
        job(),
        seconds_max=90.0,
    ),
    Situation(
        "`stack down` while a job runs",
        "reasoner stack down --folder $STACK",
        ("runs on", "reasoner stop situations"),
        1,
        job(),
    ),
    Situation(
        "a topic of results that was deleted",
        f"reasoner doctor {_AT}",
        ("which the job writes: create it with `reasoner topics create",),
        1,
        without_sink,
    ),
)
