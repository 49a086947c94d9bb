"""Subjects of rules: what the steps of a match have in common, and the states among which they are divided."""

from typing import Final
from zlib import crc32

# States of an environment, among which the subjects of rules are divided: each gets the times of the environment. A
# state is written as a whole, so that more of them are smaller; of 1,000 services one has 4, and 12 at most.
BUCKETS: Final = 256


def bucket_of(subject: str) -> int:
    """Return the bucket of a subject `by|value`, 0..BUCKETS - 1: equal on every machine."""
    return crc32(subject.encode()) % BUCKETS
