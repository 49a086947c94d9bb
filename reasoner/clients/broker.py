"""Clients of a Kafka broker; one that does not answer is said in a sentence, within seconds."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from reasoner.errors import CommandFailed, WrongUse

ANSWER_MS: Final = 10_000  # for one answer; a healthy broker needs some ms
_CONNECT_S: Final = 3.0
_LIMITS: Final = {"bootstrap_timeout_ms": ANSWER_MS, "request_timeout_ms": ANSWER_MS}


@contextmanager
def admin_of(bootstrap: str) -> Iterator[Any]:
    """Yield an admin client of the broker. Raises CommandFailed where it does not answer or refuses."""
    _reach(bootstrap)
    with _sentences(bootstrap), closing(KafkaAdminClient(bootstrap_servers=bootstrap, **_LIMITS)) as admin:
        yield admin


@contextmanager
def consumer_of(bootstrap: str, **settings: Any) -> Iterator[Any]:
    """Yield a consumer that commits nothing. Raises CommandFailed where the broker does not answer or refuses."""
    _reach(bootstrap)
    made = {"bootstrap_servers": bootstrap, "enable_auto_commit": False, **_LIMITS, **settings}
    with _sentences(bootstrap), closing(KafkaConsumer(**made)) as consumer:
        yield consumer


@contextmanager
def producer_of(bootstrap: str) -> Iterator[Any]:
    """Yield a producer. Raises CommandFailed where the broker does not answer or refuses."""
    _reach(bootstrap)
    with _sentences(bootstrap):
        producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_block_ms=ANSWER_MS, **_LIMITS)
        try:
            yield producer
        finally:
            producer.close(timeout=ANSWER_MS / 1000)


def partitions(bootstrap: str, topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic. Raises CommandFailed where it does not exist, or has one without a leader."""
    with admin_of(bootstrap) as admin:
        if topic not in admin.list_topics():
            message = (
                f"Kafka at {bootstrap} has no topic {topic}: create it with `reasoner topics create`, or name another"
            )
            raise CommandFailed(message)
        (described,) = admin.describe_topics([topic])
    leaders = {part["partition_index"]: part["leader_id"] for part in described["partitions"]}
    led = [part for part, leader in leaders.items() if leader >= 0]
    if len(led) < len(leaders):
        gone = ", ".join(str(part) for part in sorted(leaders) if part not in led)
        message = f"{topic} on {bootstrap} has no leader for partition {gone}: start the broker that has it"
        raise CommandFailed(message)
    return [TopicPartition(topic, part) for part in sorted(led)]


def no_answer(bootstrap: str, reason: object) -> CommandFailed:
    """Return the error of a broker that does not answer as it should."""
    message = (
        f"Kafka at {bootstrap} does not answer as expected ({reason}); check kafka.bootstrap_servers and that the "
        "broker runs"
    )
    return CommandFailed(message)


@contextmanager
def _sentences(bootstrap: str) -> Iterator[None]:
    """Raise CommandFailed for an error of Kafka's. Other errors, such as of the terminal, are not the broker's."""
    try:
        yield
    except (UnknownTopicOrPartitionError, TopicAuthorizationFailedError) as error:
        message = f"Kafka at {bootstrap}: {error}; `reasoner topics describe` shows which topics are there"
        raise CommandFailed(message) from error
    except KafkaError as error:
        raise no_answer(bootstrap, error) from error


def _reach(bootstrap: str) -> None:
    """Check that one of the addresses accepts connections: Kafka's client would try again until its time is over."""
    reasons = []
    for address in bootstrap.split(","):
        host, port = _split(address.strip())
        try:
            socket.create_connection((host, port), _CONNECT_S).close()
        except (OSError, UnicodeError) as error:  # UnicodeError: no host has such a name
            reasons.append(getattr(error, "strerror", None) or str(error))
        else:
            return
    raise no_answer(bootstrap, ", ".join(dict.fromkeys(reasons)))


def _split(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        message = f"{address!r} is no address of Kafka: expected host:port, as in kafka.bootstrap_servers"
        raise WrongUse(message)
    return host, port
