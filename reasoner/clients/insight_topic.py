"""Reading of `insight_out` as a consumer should do it.

Only committed messages are read, and the last revision of an id is valid.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from reasoner.clients.broker import ANSWER_MS, consumer_of, no_answer, partitions
from reasoner.clients.transactions import oldest_open_ms
from reasoner.errors import CommandFailed
from state_schemas.contracts.insight import Insight, from_json, to_json
from udfs.insights.ids import service_key, service_of


@contextmanager
def committed(bootstrap: str, topic: str) -> Iterator[Any]:
    """Yield a consumer at the beginning of the topic that reads committed messages only. Raises CommandFailed."""
    with consumer_of(bootstrap, isolation_level="read_committed", auto_offset_reset="earliest") as consumer:
        parts = partitions(bootstrap, topic)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        yield consumer


def poll(consumer: Any, wait_ms: int) -> list[bytes]:
    """Return the values that arrive within wait_ms, in partition order."""
    return [record.value for record in _records(consumer, wait_ms)]


def _records(consumer: Any, wait_ms: int) -> list[Any]:
    polled = consumer.poll(timeout_ms=wait_ms)
    return [record for part in sorted(polled) for record in polled[part]]


def read_all(bootstrap: str, topic: str) -> list[bytes]:
    """Return every committed value up to the current end of the topic; its transactions must be finished."""
    with committed(bootstrap, topic) as consumer:
        return to_end(consumer)


def to_end(consumer: Any) -> list[bytes]:
    """Return the values of `records_to_end`."""
    return [record.value for record in records_to_end(consumer)]


def records_to_end(consumer: Any) -> list[Any]:
    """Return Kafka's records from the position of a consumer up to the current end of its topic.

    Raises CommandFailed where the broker sends nothing more before that end.
    """
    ends = consumer.end_offsets(sorted(consumer.assignment()))
    found: list[Any] = []
    waiting, deadline_s = -1, 0.0
    while left := sum(max(0, end - consumer.position(part)) for part, end in ends.items()):
        now_s = time.monotonic()
        if left != waiting:
            waiting, deadline_s = left, now_s + ANSWER_MS / 1000
        elif now_s > deadline_s:
            raise no_answer(consumer.config["bootstrap_servers"], f"{left} messages do not come")
        found += _records(consumer, 1_000)
    return found


class Hidden(NamedTuple):
    """What readers of committed messages cannot see yet, because a transaction is open.

    messages: offsets behind the stable end. since_ms: start of the oldest of the transactions, epoch ms; None if no
    broker says it.
    """

    messages: int
    since_ms: int | None


def hidden(bootstrap: str, topic: str) -> Hidden | None:
    """Return what is hidden of the topic, None if nothing is. Raises CommandFailed."""
    with consumer_of(bootstrap) as every:
        ends = every.end_offsets(partitions(bootstrap, topic))
    # The stable end is read behind the end: what is committed in between must not look like hidden.
    with committed(bootstrap, topic) as consumer:
        stable = consumer.end_offsets(sorted(ends))
    messages = sum(max(0, end - stable[part]) for part, end in ends.items())
    if not messages:
        return None
    try:
        since_ms = oldest_open_ms(bootstrap, topic)
    except CommandFailed:  # an older broker, or no right to list transactions
        return Hidden(messages, None)
    return Hidden(messages, since_ms) if since_ms is not None else None


class Message(NamedTuple):
    """A message of the topic as the job writes it: a CloudEvent in binary mode."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def message(insight: Insight) -> Message:
    """Return the message of a revision: the same key, value and headers as the job's sink (`jobs/sinks.py`)."""
    key = service_key(insight.env, service_of(insight))
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{insight.insight_id}:{insight.revision}",
        "ce_source": f"/metric-reasoner/{key}",
        "ce_type": "metric-reasoner.insight.v1",
        "content-type": "application/json",
    }
    return Message(key.encode(), to_json(insight), [(name, text.encode()) for name, text in headers.items()])


def last_revisions(bodies: Iterable[bytes]) -> list[Insight]:
    """Return the highest revision of each id, without retracted insights, in the order of `sort_key`."""
    in_order = sorted(map(from_json, bodies), key=lambda insight: insight.revision)
    newest = {insight.insight_id: insight for insight in in_order}
    return sorted((insight for insight in newest.values() if insight.status != "retracted"), key=sort_key)


def sort_key(insight: Insight) -> tuple[int, str, str, str, str, str, str, int]:
    """Return the key of the order in which insights are printed: start, subject, id, revision."""
    about = (insight.env, insight.namespace, insight.service, insight.kind, insight.subject)
    return (insight.window.start_ms, *about, insight.insight_id, insight.revision)
