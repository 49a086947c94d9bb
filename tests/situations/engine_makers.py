"""Makers of wrong situations of a real broker, catalog and cluster."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import InvalidReplicationAssignmentError

from reasoner.clients import lake
from reasoner.clients.topics import TopicSpec, create_topics
from reasoner.stack.environment import java_home, kafka_jars
from reasoner.stack.kafka import CLUSTER_ID
from reasoner.stack.settings import LOOPBACK, StackSettings, free_ports
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import Evidence, Insight, Window, to_json
from state_schemas.contracts.settings import Lake
from tests.situations import doubles
from tests.situations.situation import Place

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
            wait_until(lambda: _created(admin), "the controller lets the second broker have a topic", 60.0)
            wait_until(lambda: _leader(admin) == 2, "the second broker leads the topic", 30.0)
        wait_until(lambda: _leader(admin) == -1, "the topic has no leader", 60.0)


def _created(admin: Any) -> bool:
    try:
        admin.create_topics({"without-leader": {"assignments": {0: [2]}}})
    except InvalidReplicationAssignmentError:  # the broker is listed before it may have a topic
        return False
    return True


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


def with_lake(changes: dict[str, Any]) -> Callable[[Place], None]:
    def made(place: Place) -> None:
        settings = place.real.job.lake.model_dump(mode="json")
        job({"name": "other", "lake": settings | changes})(place)

    return made


def without_sink(place: Place) -> None:
    job()(place)
    with closing(KafkaAdminClient(bootstrap_servers=place.values["KAFKA"])) as admin:
        admin.delete_topics([place.real.job.kafka.topics.insights])
