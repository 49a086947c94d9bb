"""Sending of messages to Kafka: as fast as the broker accepts them, or at a multiple of the recorded speed."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final, Literal, Protocol

from kafka import KafkaAdminClient, KafkaProducer
from kafka.codec import has_lz4, has_snappy, has_zstd
from kafka.errors import KafkaError

from reasoner.errors import CommandFailed
from reasoner.recordings.in_flight import InFlightBytes
from reasoner.recordings.message import Message
from state_schemas.telemetry.signals import SignalType

__all__ = ["Clock", "Compression", "PlayError", "PlayOptions", "PlayReport", "Progress", "WallClock", "play"]

Compression = Literal["none", "gzip", "lz4", "zstd", "snappy"]

PROGRESS_MESSAGES: Final = 50  # messages between two calls of on_progress
BLOCK_MS_MAX: Final = 10_000  # wait for the first answer of a broker, and for metadata
BATCH_BYTES: Final = 1 << 18  # of one partition; with the default of 16 kB each message would be a request of its own
RECORD_OVERHEAD_BYTES: Final = 1 << 10
CLOSE_S_MAX: Final = 10.0


class PlayError(CommandFailed):
    """A message that the broker did not accept, or a broker that cannot be reached.

    The text states what was found, what was expected and the next step.
    """


class Clock(Protocol):
    """The clock as an argument, so that a test need not sleep."""

    def now_s(self) -> float: ...
    def sleep(self, duration_s: float) -> None: ...


class WallClock:
    """The monotonic clock of the machine."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """Options of sending. acks are always `all`."""

    # gzip and none always work, the others if their library is installed.
    compression: Compression = "none"
    # Recorded seconds per real second, > 0; None: as fast as possible.
    speed: float | None = None
    # Bytes of values that the broker has not confirmed; bounds the memory of this process.
    in_flight_bytes_max: int = 32 << 20
    # Bytes of the largest message.
    message_bytes_max: int = 8 << 20

    def __post_init__(self) -> None:
        if self.speed is not None and not self.speed > 0:
            message = f"speed is {self.speed}, expected more than 0, or None for as fast as possible"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Progress:
    """Messages given to the producer so far. timestamp_ms: of the newest message, epoch ms."""

    messages: int
    value_bytes: int
    timestamp_ms: int


@dataclass(slots=True)
class PlayReport:
    """Messages that the broker confirmed. last_offsets: (topic, partition) -> offset of its last message."""

    messages: Counter[SignalType] = field(default_factory=Counter)
    value_bytes: int = 0
    last_offsets: dict[tuple[str, int], int] = field(default_factory=dict)


def play(
    messages: Iterable[Message],
    bootstrap: str,
    topics: Mapping[SignalType, str],
    options: PlayOptions = PlayOptions(),
    clock: Clock | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> PlayReport:
    """Send messages in their order, with their timestamps, to the topic of their kind; return when all are confirmed.

    A message without a partition gets the topic's partitions in turn. The order within a partition is kept. All topics
    must exist (sending creates none) and every kind needs one; the partition of a message is checked before it is sent.
    With a speed, a message is sent when (its timestamp - the first timestamp) / speed has passed on the clock; a slow
    broker delays the recording and loses nothing. Raises PlayError at the first message that fails; those before it are
    in Kafka.
    """
    player = _Player(bootstrap, topics, options, clock or WallClock())
    try:
        for message in messages:
            player.send(message)
            if on_progress and player.sent % PROGRESS_MESSAGES == 0:
                on_progress(player.progress(message))
        player.finish()
        if on_progress and player.sent % PROGRESS_MESSAGES:
            on_progress(player.progress(message))
    finally:
        player.close()
    return player.report


class _Player:
    def __init__(self, bootstrap: str, topics: Mapping[SignalType, str], options: PlayOptions, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._options = options
        self._clock = clock
        self._partitions = partitions_of(bootstrap, sorted(set(topics.values())))
        self._turns = {topic: cycle(sorted(partitions)) for topic, partitions in self._partitions.items()}
        self._producer = _producer(bootstrap, options)
        self._room = InFlightBytes(options.in_flight_bytes_max)  # the producer's delivery timeout ends each wait
        self._start: tuple[float, int] | None = None  # clock, timestamp of the first message
        self.report = PlayReport()
        self.sent = 0
        self._sent_bytes = 0

    def send(self, message: Message) -> None:
        topic = self._topics.get(message.topic_kind)
        if topic is None:
            text = f"no topic for {message.topic_kind}; expected one of {', '.join(self._topics)}; name a topic for it"
            raise PlayError(text)
        partition = self._partition(topic, message.partition)
        self._wait_for_turn(message.timestamp_ms)
        size = len(message.value)
        self._room.take(size)
        try:
            future = self._producer.send(
                topic, value=message.value, partition=partition, timestamp_ms=message.timestamp_ms
            )
        except KafkaError as error:
            raise PlayError(_refused(topic, partition, message.timestamp_ms, error)) from error
        future.add_callback(self._confirmed, message.topic_kind, size)
        future.add_errback(self._failed, topic, partition, message.timestamp_ms)
        self.sent += 1
        self._sent_bytes += size

    def finish(self) -> None:
        self._producer.flush()
        self._room.raise_failure()

    def close(self) -> None:
        self._producer.close(timeout=CLOSE_S_MAX)

    def progress(self, last: Message) -> Progress:
        return Progress(self.sent, self._sent_bytes, last.timestamp_ms)

    def _wait_for_turn(self, timestamp_ms: int) -> None:
        if self._options.speed is None:
            return
        if self._start is None:
            self._start = (self._clock.now_s(), timestamp_ms)
        began_s, first_ms = self._start
        due_s = began_s + (timestamp_ms - first_ms) / 1000.0 / self._options.speed
        if (wait_s := due_s - self._clock.now_s()) > 0:
            self._clock.sleep(wait_s)

    def _partition(self, topic: str, wanted: int | None) -> int:
        if wanted is None:
            return next(self._turns[topic])
        if wanted not in self._partitions[topic]:
            text = f"{topic} has no partition {wanted}, only {len(self._partitions[topic])}; create it with more"
            raise PlayError(text)
        return wanted

    # The two below run in the producer's thread, one at a time.
    def _confirmed(self, kind: SignalType, size: int, metadata: Any) -> None:
        self.report.messages[kind] += 1
        self.report.value_bytes += size
        place = (metadata.topic, metadata.partition)
        self.report.last_offsets[place] = max(metadata.offset, self.report.last_offsets.get(place, -1))
        self._room.give_back(size)

    def _failed(self, topic: str, partition: int, timestamp_ms: int, error: BaseException) -> None:
        self._room.fail(PlayError(_refused(topic, partition, timestamp_ms, error)))


def partitions_of(bootstrap: str, topics: Sequence[str]) -> dict[str, frozenset[int]]:
    """Return the partitions of each topic. Raises PlayError that names all missing topics, or if no broker answers.

    The admin client is used because the producer of kafka-python 3.0.12 does not pass `allow_auto_create_topics` on,
    and a topic that the broker creates by itself deletes recordings older than its retention.
    """
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=BLOCK_MS_MAX)
    except KafkaError as error:
        text = f"no broker answers at {bootstrap}: {error}; start one or name another address"
        raise PlayError(text) from error
    try:
        described = admin.describe_topics(list(topics)) if topics else []
    finally:
        admin.close()
    found = {
        topic["name"]: frozenset(partition["partition_index"] for partition in topic["partitions"])
        for topic in described
        if not topic["error_code"]
    }
    if missing := [topic for topic in topics if not found.get(topic)]:
        text = f"{bootstrap} has no topic {', '.join(missing)}; create it first, with retention for old timestamps"
        raise PlayError(text)
    return found


def _refused(topic: str, partition: int, timestamp_ms: int, error: BaseException) -> str:
    return (
        f"{topic}, partition {partition}: the message with timestamp {timestamp_ms} was not taken: "
        f"{type(error).__name__}: {error}; see max.message.bytes and message.timestamp.after.max.ms of the topic"
    )


def _producer(bootstrap: str, options: PlayOptions) -> Any:
    available = {"none": True, "gzip": True, "lz4": has_lz4(), "zstd": has_zstd(), "snappy": has_snappy()}
    if not available.get(options.compression):
        usable = ", ".join(name for name, found in available.items() if found)
        text = f"compression {options.compression!r} cannot be used; expected one of {usable}, or install its library"
        raise PlayError(text)
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type=None if options.compression == "none" else options.compression,
        max_request_size=options.message_bytes_max + RECORD_OVERHEAD_BYTES,
        batch_size=BATCH_BYTES,
        linger_ms=5,
        max_block_ms=BLOCK_MS_MAX,
        bootstrap_timeout_ms=BLOCK_MS_MAX,
    )
