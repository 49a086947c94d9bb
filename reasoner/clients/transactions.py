"""Open Kafka transactions of a job: readers of committed messages see nothing behind the first of them."""

from contextlib import closing
from typing import Final, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reasoner.clients.broker import admin_of
from reasoner.errors import CommandFailed
from state_schemas.contracts.settings import ReaderConfig

_OPEN: Final = ("Ongoing", "PrepareCommit", "PrepareAbort")


class OpenTransaction(NamedTuple):
    """A transaction that is neither committed nor aborted."""

    transactional_id: str
    topics: tuple[str, ...]
    # Epoch ms.
    started_ms: int


def prefixes(config: ReaderConfig) -> tuple[str, ...]:
    """Return the beginnings of the transactional ids of a job's sinks, one for each topic that it writes."""
    topics = config.kafka.topics
    return tuple(f"{config.name}-{topic}" for topic in (topics.insights, topics.rejected))


def open_transactions(bootstrap: str) -> list[OpenTransaction]:
    """Return the open transactions of a broker, the oldest first. Raises CommandFailed."""
    with admin_of(bootstrap) as admin:
        listed = admin.list_transactions(state_filters=_OPEN)
        ids = sorted(found.transactional_id for on_broker in listed.values() for found in on_broker)
        described = admin.describe_transactions(ids) if ids else {}
    found = [
        OpenTransaction(
            name, tuple(sorted({part.topic for part in about.topic_partitions})), about.transaction_start_time_ms
        )
        for name, about in described.items()
        if about.state.value in _OPEN
    ]
    return sorted(found, key=lambda transaction: (transaction.started_ms, transaction.transactional_id))


def of_job(config: ReaderConfig) -> dict[OpenTransaction, int]:
    """Return the open transactions of a job, the oldest first, with the number of the checkpoint that commits each.

    The sink writes that number into the id. Raises CommandFailed.
    """
    wanted = prefixes(config)
    found = {
        one: _checkpoint(one.transactional_id, wanted) for one in open_transactions(config.kafka.bootstrap_servers)
    }
    return {one: number for one, number in found.items() if number is not None}


def oldest_open_ms(bootstrap: str, topic: str) -> int | None:
    """Return the start, in epoch ms, of the oldest open transaction with messages of the topic; None without one."""
    return next((found.started_ms for found in open_transactions(bootstrap) if topic in found.topics), None)


def abort(bootstrap: str, transactional_id: str) -> None:
    """Abort the open transaction of this id, as a new producer with the id does; the old one cannot write again."""
    try:
        with closing(KafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)) as producer:
            producer.init_transactions()
    except KafkaError as error:
        message = f"transaction {transactional_id} could not be aborted ({error}); it ends after its timeout"
        raise CommandFailed(message) from error


def _checkpoint(transactional_id: str, wanted: tuple[str, ...]) -> int | None:
    """Return the checkpoint of an id `PREFIX-SUBTASK-CHECKPOINT` with one of these prefixes, None for another id."""
    prefix, _, rest = transactional_id.rpartition("-")
    prefix, _, subtask = prefix.rpartition("-")
    is_one = prefix in wanted and subtask.isdigit() and rest.isdigit()
    return int(rest) if is_one else None
