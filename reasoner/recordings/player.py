"""Sending of messages to Kafka: as fast as the broker accepts them, or at a multiple of the recorded speed."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reasoner.errors import CommandFailed
from reasoner.recordings.message import Message
from state_schemas.telemetry.signals import SignalType

Compression = Literal["none", "gzip", "lz4", "zstd", "snappy"]

PROGRESS_MESSAGES: Final = 50  # messages between two calls of on_progress, which gets the newest timestamp
BLOCK_MS_MAX: Final = 10_000  # wait for the first answer of a broker, and for metadata
BATCH_BYTES: Final = 1 << 18  # of one partition; with the default of 16 kB each message would be a request of its own
MESSAGE_BYTES_MAX: Final = (8 << 20) + (1 << 10)  # with the overhead of a record
CLOSE_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """Options of sending. acks are always `all`."""

    # gzip and none always work, the others if their library is installed.
    compression: Compression = "none"
    # Recorded seconds per real second, > 0; None: as fast as possible.
    speed: float | None = None
    # Bytes of values that the broker has not confirmed; bounds the memory of this process.
    in_flight_bytes_max: int = 32 << 20


@dataclass(slots=True)
class PlayReport:
    """Messages that the broker confirmed, by kind, and the bytes of their values."""

    messages: Counter[SignalType] = field(default_factory=Counter)
    value_bytes: int = 0


def play(
    messages: Iterable[Message],
    bootstrap: str,
    topics: Mapping[SignalType, str],
    options: PlayOptions = PlayOptions(),
    on_progress: Callable[[int], None] = lambda _: None,
) -> PlayReport:
    """Send messages in their order, with their timestamps, to the topic of their kind; return when all are confirmed.

    Each message needs a partition (`placed`), and each kind a topic that exists. The order within a partition is kept.
    With a speed, a message is sent when (its timestamp - the first timestamp) / speed has passed on the clock; a slow
    broker delays the recording and loses nothing. Raises CommandFailed at the first message that fails, with what
    was expected and the next step; those before it are in Kafka.
    """
    player = _Player(bootstrap, topics, options)
    try:
        for number, message in enumerate(messages, 1):
            player.send(message)
            if number % PROGRESS_MESSAGES == 0:
                on_progress(message.timestamp_ms)
        player.finish()
    finally:
        player.close()
    return player.report


class _Player:
    def __init__(self, bootstrap: str, topics: Mapping[SignalType, str], options: PlayOptions) -> None:
        self._topics = topics
        self._options = options
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            compression_type=None if options.compression == "none" else options.compression,
            max_request_size=MESSAGE_BYTES_MAX,
            batch_size=BATCH_BYTES,
            linger_ms=5,
            max_block_ms=BLOCK_MS_MAX,
            bootstrap_timeout_ms=BLOCK_MS_MAX,
        )
        self._unconfirmed: deque[tuple[Message, Any]] = deque()  # with the future of kafka-python
        self._start: tuple[float, int] | None = None  # clock, timestamp of the first message
        self.report = PlayReport()
        self._sent_bytes = 0

    def send(self, message: Message) -> None:
        topic = self._topics.get(message.topic_kind)
        if topic is None:
            text = f"no topic for {message.topic_kind}; expected one of {', '.join(self._topics)}; name a topic for it"
            raise CommandFailed(text)
        partition, size = message.partition, len(message.value)
        assert partition is not None, "a message without a partition, expected `placed` ones"
        partitions = self._producer.partitions_for(topic)
        if partition not in partitions:
            text = f"{topic} has no partition {partition}, only {len(partitions)}; create it with more"
            raise CommandFailed(text)
        if self._options.speed is not None:
            self._wait_for_turn(message.timestamp_ms, self._options.speed)
        # kafka-python 3 has no bound of waiting bytes (2.x had `buffer_memory`). A message larger than the bound is
        # sent alone. The delivery timeout of the producer ends each wait.
        room = self._options.in_flight_bytes_max - size
        while self._unconfirmed and (
            self._unconfirmed[0][1].is_done or self._sent_bytes - self.report.value_bytes > room
        ):
            self._confirm_oldest()
        with self._refusals_of(message):
            future = self._producer.send(
                topic, value=message.value, partition=partition, timestamp_ms=message.timestamp_ms
            )
        self._unconfirmed.append((message, future))
        self._sent_bytes += size

    def finish(self) -> None:
        self._producer.flush()
        while self._unconfirmed:
            self._confirm_oldest()

    def close(self) -> None:
        self._producer.close(timeout=CLOSE_S_MAX)

    def _wait_for_turn(self, timestamp_ms: int, speed: float) -> None:
        self._start = self._start or (time.monotonic(), timestamp_ms)
        began_s, first_ms = self._start
        early_s = began_s + (timestamp_ms - first_ms) / 1000.0 / speed - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)

    def _confirm_oldest(self) -> None:
        message, future = self._unconfirmed.popleft()
        with self._refusals_of(message):
            future.get()
        self.report.messages[message.topic_kind] += 1
        self.report.value_bytes += len(message.value)

    @contextmanager
    def _refusals_of(self, message: Message) -> Iterator[None]:
        """Raise CommandFailed where Kafka's client refuses this message."""
        try:
            yield
        except KafkaError as error:
            text = (
                f"{self._topics[message.topic_kind]}, partition {message.partition}: the message with timestamp "
                f"{message.timestamp_ms} was not taken: {type(error).__name__}: {error}; "
                "see max.message.bytes and message.timestamp.after.max.ms of the topic"
            )
            raise CommandFailed(text) from error
