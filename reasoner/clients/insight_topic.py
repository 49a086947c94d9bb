"""Reading of `insight_out` as a consumer should do it.

Only committed messages are read, and the last revision of an id is valid.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from reasoner.clients.broker import ANSWER_MS, consumer_of, no_answer, partitions
from state_schemas.contracts.insight import Insight, from_json


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
    polled = consumer.poll(timeout_ms=wait_ms)
    return [record.value for part in sorted(polled) for record in polled[part]]


def read_all(bootstrap: str, topic: str) -> list[bytes]:
    """Return every committed value up to the current end of the topic; its transactions must be finished."""
    with committed(bootstrap, topic) as consumer:
        return to_end(consumer)


def to_end(consumer: Any) -> list[bytes]:
    """Return the values from the position of a consumer up to the current end of its topic.

    Raises CommandFailed where the broker sends nothing more before that end.
    """
    ends = consumer.end_offsets(sorted(consumer.assignment()))
    values: list[bytes] = []
    waiting, deadline_s = -1, 0.0
    while left := sum(max(0, end - consumer.position(part)) for part, end in ends.items()):
        now_s = time.monotonic()
        if left != waiting:
            waiting, deadline_s = left, now_s + ANSWER_MS / 1000
        elif now_s > deadline_s:
            raise no_answer(consumer.config["bootstrap_servers"], f"{left} messages do not come")
        values += poll(consumer, 1_000)
    return values


def hidden(bootstrap: str, topic: str) -> int:
    """Return the number of offsets that a reader of committed messages cannot see yet: a transaction is open."""
    with committed(bootstrap, topic) as consumer:
        parts = sorted(consumer.assignment())
        stable = consumer.end_offsets(parts)
    with consumer_of(bootstrap) as every:
        every.assign(parts)
        return sum(end - stable[part] for part, end in every.end_offsets(parts).items())


def last_revisions(bodies: Iterable[bytes]) -> list[Insight]:
    """Return the highest revision of each id, without retracted insights, in the order of `sort_key`."""
    in_order = sorted(map(from_json, bodies), key=lambda insight: insight.revision)
    newest = {insight.insight_id: insight for insight in in_order}
    return sorted((insight for insight in newest.values() if insight.status != "retracted"), key=sort_key)


def sort_key(insight: Insight) -> tuple[int, str, str, str, str, str, str, int]:
    """Return the key of the order in which insights are printed: start, subject, id, revision."""
    about = (insight.env, insight.namespace, insight.service, insight.kind, insight.subject)
    return (insight.window.start_ms, *about, insight.insight_id, insight.revision)
