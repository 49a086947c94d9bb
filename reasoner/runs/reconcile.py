"""Reconciliation of the topic of insights with their table: what a long outage took from the topic is sent again.

Both sinks commit with a checkpoint. Where the job is down for longer than `kafka.transaction_timeout_ms`, the broker
aborts the transaction that the next start would have committed: the table has its insights and the topic does not.
"""

from collections.abc import Iterable
from typing import Final

from reasoner.clients import lake
from reasoner.clients.broker import producer_of
from reasoner.clients.insight_topic import message, read_all, sort_key
from reasoner.clients.topic_samples import topic_states
from reasoner.errors import WrongUse
from state_schemas.contracts.insight import Insight, from_json
from state_schemas.contracts.settings import ReaderConfig
from udfs.insights.wording import elapsed

SENT_S_MAX: Final = 30.0


def lost(in_table: Iterable[Insight], in_topic: Iterable[Insight]) -> list[Insight]:
    """Return the newest revision of each insight of the table, where the topic has no revision that is as new.

    Earlier revisions are not needed: the highest one holds. Order: by start.
    """
    newest: dict[str, Insight] = {}
    for insight in in_table:
        held = newest.get(insight.insight_id)
        if held is None or insight.revision > held.revision:
            newest[insight.insight_id] = insight
    seen: dict[str, int] = {}
    for insight in in_topic:
        seen[insight.insight_id] = max(insight.revision, seen.get(insight.insight_id, -1))
    return sorted((i for i in newest.values() if i.revision > seen.get(i.insight_id, -1)), key=sort_key)


def lost_since(config: ReaderConfig, since_ms: int, now_ms: int) -> list[Insight]:
    """Return the insights that the topic lacks, of those whose window ends after since_ms (epoch ms).

    The table is read first: what is committed between the two readings is not taken for lost. now_ms: wall clock.
    Raises WrongUse where the topic does not keep messages for so long, CommandFailed where something cannot be read.
    """
    kafka = config.kafka
    state = topic_states(kafka.bootstrap_servers, [kafka.topics.insights]).get(kafka.topics.insights)
    if state and 0 <= state.retention_ms < now_ms - since_ms:
        text = (
            f"{kafka.topics.insights} keeps messages for {elapsed(state.retention_ms)} only: older ones are not lost "
            "but removed; give a shorter --since"
        )
        raise WrongUse(text)
    rows = lake.read(config.lake, "insights", row_filter=f"window_end >= {since_ms * 1000}", selected_fields=("body",))
    in_table = [from_json(body.encode()) for body in rows.column("body").to_pylist()]
    return lost(in_table, map(from_json, read_all(kafka.bootstrap_servers, kafka.topics.insights)))


def send(config: ReaderConfig, insights: Iterable[Insight]) -> None:
    """Send insights to their topic as the job does; return when the broker has taken each. Raises CommandFailed."""
    kafka = config.kafka
    with producer_of(kafka.bootstrap_servers) as producer:
        sent = [producer.send(kafka.topics.insights, **message(insight)._asdict()) for insight in insights]
        for future in sent:
            future.get(timeout=SENT_S_MAX)
