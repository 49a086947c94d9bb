"""Wrong situations of a real broker, catalog and cluster."""

import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer

from reasoner.clients import lake
from reasoner.clients.topics import TopicSpec, create_topics
from reasoner.stack.environment import java_home, kafka_jars
from reasoner.stack.kafka import CLUSTER_ID
from reasoner.stack.settings import LOOPBACK, StackSettings, free_ports
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Evidence, Insight, Window, to_json
from state_schemas.contracts.settings import Lake
from tests.situations import doubles
from tests.situations.situation import INTERRUPTED, Place, Situation
from tests.situations.without_engine import CHECK_CATALOG, CHECK_KAFKA

SLOW_S: Final = 12.0  # longer than an answer may take
TITLE: Final = "checkout P95 360 ms, usually 41 ms"


def kafka(topics: dict[str, str] | None = None, **sections: Any) -> Callable[[Place], None]:
    """Return a maker of settings with the real broker, these topics, and a catalog in the folder."""

    def made(place: Place) -> None:
        address = place.values["KAFKA"] = place.real.stack.settings.kafka_bootstrap
        place.settings(kafka={"bootstrap_servers": address, "topics": topics or {}}, **sections)

    return made


def with_insight(place: Place) -> None:
    kafka()(place)
    bootstrap = place.values["KAFKA"]
    create_topics(bootstrap, {"insight_out": TopicSpec(1, -1)})
    insight = Insight(
        insight_id="3f2a91c0" * 4,
        revision=0,
        status="open",
        kind="latency_spike",
        env="shop",
        service="checkout",
        subject="",
        window=Window(start_ms=1_790_000_000_000, end_ms=1_790_000_010_000),
        severity="warning",
        confidence=1,
        title=TITLE,
        measures={},
        evidence=Evidence(),
    )
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        producer.send("insight_out", to_json(insight)).get(30)


def slow_broker(place: Place) -> None:
    there = place.real.stack.settings.kafka_bootstrap
    port = place.values["PORT"] = doubles.slow(place.stack, there, SLOW_S)
    place.settings(kafka={"bootstrap_servers": f"{LOOPBACK}:{port}"})


def leaderless(place: Place) -> None:
    """Make a topic on a second broker and stop that broker."""
    kafka({"insights": "without-leader"})(place)
    with closing(KafkaAdminClient(bootstrap_servers=place.values["KAFKA"])) as admin:
        with second_broker(place.real.stack.settings, place.folder):
            wait_until(lambda: len(admin.describe_cluster()["brokers"]) == 2, "there are two brokers", 60.0)
            admin.create_topics({"without-leader": {"assignments": {0: [2]}}})
            wait_until(lambda: _leader(admin) == 2, "the second broker leads the topic", 30.0)
        wait_until(lambda: _leader(admin) == -1, "the topic has no leader", 60.0)


def _leader(admin: Any) -> int:
    (topic,) = admin.describe_topics(["without-leader"])
    return int(topic["partitions"][0]["leader_id"]) if topic["partitions"] else -2


@contextmanager
def second_broker(settings: StackSettings, folder: Path) -> Iterator[None]:
    """Run a second broker of the cluster."""
    (port,) = free_ports(1)
    properties = folder / "broker-2.properties"
    properties.write_text(
        "process.roles=broker\nnode.id=2\ncontroller.listener.names=CONTROLLER\n"
        f"controller.quorum.voters=1@{LOOPBACK}:{settings.kafka_controller_port}\n"
        f"listeners=PLAINTEXT://{LOOPBACK}:{port}\nlog.dirs={folder}/broker-2\n"
    )
    java = [str(java_home() / "bin" / "java"), "-Xmx256m", "-cp", f"{kafka_jars()}/*"]
    with (folder / "broker-2.log").open("wb") as log:
        tool = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        subprocess.run(tool, check=True, stdout=log, stderr=log)
        broker = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
        try:
            yield
        finally:
            broker.terminate()
            broker.wait(60)


def catalog(user: str = "reasoner", database: str = "lake", password: str = "") -> Callable[[Place], None]:
    """Return a maker of settings of the real PostgreSQL with this user, database and password."""

    def made(place: Place) -> None:
        port = place.values["PG"] = str(place.real.stack.settings.postgres_port)
        found = {"uri": f"jdbc:postgresql://{LOOPBACK}:{port}/{database}", "user": user}
        if password:
            place.file("password", password.encode())
            found["password_file"] = "password"
        place.settings(lake={**found, "warehouse": f"file://{place.folder}/warehouse"})

    return made


def job(changes: dict[str, Any] | None = None, **engine: Any) -> Callable[[Place], None]:
    """Return a maker of the settings of the job that runs, with changes."""

    def made(place: Place) -> None:
        stack = place.real.stack.settings
        place.values |= {
            "FLINK": stack.flink_rest_url,
            "KAFKA": stack.kafka_bootstrap,
            "SAVEPOINT": place.real.savepoint,
            "STACK": str(stack.folder),
        }
        found = place.real.job.model_dump(mode="json")
        found["engine"] |= engine
        place.settings(**{**found, **(changes or {})})

    return made


def fresh(place: Place) -> None:
    """Make settings with a catalog and topics that were not created."""
    job()(place)
    place.settings(name="fresh", kafka={"bootstrap_servers": place.values["KAFKA"], "topics": {"traces": "fresh"}})


def with_tables(place: Place) -> None:
    place.settings()
    settings = Lake(uri=f"jdbc:sqlite:{place.folder}/catalog.db", warehouse=f"file://{place.folder}/warehouse")
    lake.create_tables(settings)


def brokers_and_catalogs() -> Iterable[Situation]:
    show = "reasoner insights list --config job.yaml"
    yield Situation("a topic that does not exist", show, ("has no topic", "reasoner topics create"), 1, kafka())
    yield Situation("a broker whose answers take 12 s", show, (CHECK_KAFKA,), 1, slow_broker)
    yield Situation(
        "a topic without a leader",
        show,
        ("has no leader for partition 0", "start the broker"),
        1,
        leaderless,
        seconds_max=60.0,
    )
    yield Situation(
        "an insight that does not exist",
        "reasoner insights show 0000 --config job.yaml",
        ("no insight 0000 among", "`reasoner insights list` shows the ids"),
        1,
        with_insight,
    )
    yield Situation(
        "Ctrl-C of `insights tail`",
        "reasoner insights tail --config job.yaml",
        (TITLE,),
        INTERRUPTED,
        with_insight,
        interrupt_when=TITLE,
    )
    tables = "reasoner tables create --config job.yaml"
    yield Situation("a user that the catalog does not know", tables, ('"nobody"', CHECK_CATALOG), 1, catalog("nobody"))
    yield Situation("a database that does not exist", tables, ('"pond"', CHECK_CATALOG), 1, catalog(database="pond"))
    yield Situation(
        "a catalog with another password",
        tables,
        ("password authentication failed", CHECK_CATALOG),
        1,
        catalog("guarded", "guarded", "wrong"),
    )
    yield Situation(
        "Ctrl-C of `tables maintain`",
        "reasoner tables maintain --config job.yaml",
        (),
        INTERRUPTED,
        with_tables,
        interrupt_when="/catalog.db",
    )
    yield Situation(
        "Ctrl-C of `stack up`",
        "reasoner stack up kafka --kafka-port auto --kafka-controller-port auto",
        (),
        INTERRUPTED,
        lambda place: None,
        interrupt_when="/.run/lock",
    )


def clusters() -> Iterable[Situation]:
    at = "--config job.yaml --target $FLINK"
    submit = f"reasoner submit latency-spikes {at}"
    yield Situation(
        "topics and tables that were not created",
        f"reasoner submit {at}",
        ("has no topic", "has no table", "reasoner topics create", "reasoner tables create"),
        1,
        fresh,
    )
    yield Situation("a job whose name runs already", submit, ("is RUNNING on", "stop it with `reasoner stop"), 1, job())
    other = {"name": "other"}
    yield Situation(
        "more parallelism than slots",
        submit,
        ("free slots, expected 40", "add TaskManagers, or lower it"),
        1,
        job(other, parallelism=40),
    )
    yield Situation(
        "a savepoint that does not exist",
        f"{submit} --savepoint file:///no/savepoint",
        ("failed as it started", "check the path"),
        1,
        job(other),
        seconds_max=90.0,
    )
    yield Situation(
        "a savepoint of another job",
        f"reasoner submit error-patterns {at} --savepoint $SAVEPOINT",
        ("failed as it started", "has the same stages"),
        1,
        job({"name": "patterns"}),
        seconds_max=90.0,
    )
    yield Situation(
        "another max_parallelism than that of the savepoint",
        f"{submit} --savepoint $SAVEPOINT",
        ("failed as it started", "set engine.max_parallelism as it was"),
        1,
        job(other, max_parallelism=8),
        seconds_max=90.0,
    )
    missing = {"io-impl": "org.example.Missing"}
    yield Situation(
        "a class of the catalog that is not installed",
        f"reasoner submit {at} --no-checks",
        ("did not take the job",),
        1,
        with_lake({"properties": missing}),
        seconds_max=90.0,
    )
    yield Situation(
        "the same on a mini-cluster",
        "reasoner submit --config job.yaml --no-checks",
        ("the job has ended with code 1", "see "),
        1,
        with_lake({"properties": missing}),
        seconds_max=90.0,
    )
    yield Situation(
        "Ctrl-C of `submit` with a mini-cluster",
        "reasoner submit latency-spikes --config job.yaml",
        (),
        INTERRUPTED,
        job(other),
        interrupt_when="the job runs until Ctrl-C",
    )
    yield Situation(
        "a job that does not run",
        "reasoner stop cart --target $FLINK",
        ("no job named cart runs", "`reasoner jobs` lists them"),
        1,
        job(),
    )
    yield Situation(
        "a folder in which the cluster cannot write",
        "reasoner savepoint situations --target $FLINK --folder file:///proc/no",
        ("savepoint of", "see the JobManager's log"),
        1,
        job(),
        seconds_max=90.0,
    )
    yield Situation(
        "`stack down` while a job runs",
        "reasoner stack down --folder $STACK",
        ("runs on", "reasoner stop situations"),
        1,
        job(),
    )
    yield Situation(
        "a topic of results that was deleted",
        f"reasoner doctor {at}",
        ("which the job writes: create it with `reasoner topics create",),
        1,
        without_sink,
    )


def with_lake(changes: dict[str, Any]) -> Callable[[Place], None]:
    def made(place: Place) -> None:
        settings = place.real.job.lake.model_dump(mode="json")
        job({"name": "other", "lake": settings | changes})(place)

    return made


def without_sink(place: Place) -> None:
    job()(place)
    with closing(KafkaAdminClient(bootstrap_servers=place.values["KAFKA"])) as admin:
        admin.delete_topics([place.real.job.kafka.topics.insights])


ROWS: Final = (*brokers_and_catalogs(), *clusters())
