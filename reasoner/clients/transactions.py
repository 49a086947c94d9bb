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
    """A transaction that is neither committed nor aborted.

    checkpoint: number of the checkpoint of the job that commits it; the sink writes it into the id.
    """

    transactional_id: str
    checkpoint: int
    topics: tuple[str, ...]
    # Epoch ms.
    started_ms: int


def prefixes(config: ReaderConfig) -> tuple[str, ...]:
    """Return the beginnings of the transactional ids of a job's sinks, one for each topic that it writes."""
    topics = config.kafka.topics
    return tuple(f"{config.name}-{topic}" for topic in (topics.insights, topics.rejected))


def open_transactions(config: ReaderConfig) -> list[OpenTransaction]:
    """Return the open transactions of a job, the oldest first. Raises CommandFailed."""
    with admin_of(config.kafka.bootstrap_servers) as admin:
        listed = admin.list_transactions(state_filters=_OPEN)
        ids = [found.transactional_id for on_broker in listed.values() for found in on_broker]
        mine = sorted(name for name in ids if _checkpoint(name, prefixes(config)) is not None)
        described = admin.describe_transactions(mine) if mine else {}
    found = [
        OpenTransaction(
            name,
            _checkpoint(name, prefixes(config)) or 0,
            tuple(sorted({part.topic for part in about.topic_partitions})),
            about.transaction_start_time_ms,
        )
        for name, about in described.items()
        if about.state.value in _OPEN
    ]
    return sorted(found, key=lambda transaction: (transaction.started_ms, transaction.transactional_id))


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
