"""Subjects of rules: what the steps of a match have in common, and the states among which they are divided."""

from typing import Final
from zlib import crc32

# States of an environment, among which the subjects of rules are divided: each gets the times of the environment.
BUCKETS: Final = 64


def bucket_of(subject: str) -> int:
    """Return the bucket of a subject `by|value`, 0..BUCKETS - 1: equal on every machine."""
    return crc32(subject.encode()) % BUCKETS
