"""Offsets of topics and of the group of a job, which Flink commits at each completed checkpoint."""

from collections.abc import Iterable, Mapping
from typing import Final

from kafka import TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from reasoner.clients.broker import admin_of, consumer_of, partitions

# The broker creates its topic of offsets at the first commit, chooses its leader, and then loads it.
_NO_OFFSETS_YET: Final = (CoordinatorNotAvailableError, NotCoordinatorError, CoordinatorLoadInProgressError)


def end_offsets(bootstrap: str, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Return the offset behind the last record of each partition. Raises CommandFailed."""
    with consumer_of(bootstrap) as consumer:
        parts = [part for topic in topics for part in partitions(bootstrap, topic)]
        ends: dict[TopicPartition, int] = consumer.end_offsets(parts)
        return ends


def committed_offsets(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    """Return the offsets that the group has committed; Flink commits at each completed checkpoint.

    Raises CommandFailed.
    """
    with admin_of(bootstrap) as admin:
        try:
            offsets = admin.list_group_offsets(group).get(group, {})
        except _NO_OFFSETS_YET:
            return {}
    return {part: committed_at.offset for part, committed_at in offsets.items()}


def has_read(bootstrap: str, group: str, ends: Mapping[TopicPartition, int]) -> bool:
    """Return whether a completed checkpoint of the job is at these offsets, or behind them."""
    read = committed_offsets(bootstrap, group)
    return all(read.get(part, 0) >= end for part, end in ends.items())
