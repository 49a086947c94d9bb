"""Backtest over topics: messages between offsets, by their timestamps, give what a recording of them does."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from reasoner.clients import topic_messages
from reasoner.clients.topic_messages import offsets_named, offsets_since, records_between
from reasoner.errors import CommandFailed, WrongUse
from tests.support.commands import run
from tests.support.pool_lines import POOL, START_NS, line

START_MS = START_NS // 1_000_000
LOGS = [TopicPartition("logs_raw", number) for number in range(2)]


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None


@dataclass
class Consumer:
    """A consumer of topics; polls return so many records at most. ends: of partitions that end with other offsets."""

    records: Mapping[TopicPartition, list[Record]]
    polled_max: int = 1
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=lambda: {"bootstrap_servers": "kafka:9092"})

    def __post_init__(self) -> None:
        self.at: dict[TopicPartition, int] = {}
        self.given = 0
        self.seek, self.position = self.at.__setitem__, self.at.__getitem__

    def assign(self, parts: list[TopicPartition]) -> None:
        self.at.clear()
        self.at.update(dict.fromkeys(parts, 0))

    def beginning_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {part: self.records[part][0].offset if self.records[part] else 0 for part in parts}

    def end_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        last = {part: self.records[part][-1].offset + 1 if self.records[part] else 0 for part in parts}
        return last | {part: end for part, end in self.ends.items() if part in last}

    def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Record | None]:
        return {
            part: next((record for record in self.records[part] if record.timestamp >= at_ms), None)
            for part, at_ms in times.items()
        }

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        found: dict[TopicPartition, list[Record]] = {}
        for part in sorted(self.at):
            if self.records[part] and self.at[part] < self.records[part][0].offset:  # retention has deleted it
                if self.config["auto_offset_reset"] == "none":
                    raise OffsetOutOfRangeError({part: self.at[part]})
                self.at[part] = self.end_offsets([part])[part]
            left = [record for record in self.records[part] if record.offset >= self.at[part]]
            taken = left[: self.polled_max]
            found |= {part: taken} if taken else {}
            last = self.end_offsets([part])[part] if len(taken) == len(left) else taken[-1].offset + 1
            self.at[part] = max(self.at[part], last)
            self.given += len(taken)
            if taken:
                break
        return found


def topic(part: TopicPartition, *timestamps: int, first: int = 0) -> list[Record]:
    return [Record(part.topic, part.partition, first + number, at_ms, b"") for number, at_ms in enumerate(timestamps)]


@contextmanager
def broker(consumer: Consumer) -> Iterator[None]:
    """Let a consumer be that of every broker."""

    @contextmanager
    def consumer_of(bootstrap: str, **settings: Any) -> Iterator[Consumer]:
        consumer.__post_init__()
        consumer.config |= {"auto_offset_reset": "latest", **settings}
        yield consumer

    def parts(bootstrap: str, name: str) -> list[TopicPartition]:
        return sorted(part for part in consumer.records if part.topic == name)

    def newest_ms(bootstrap: str, name: str) -> int:
        return max((records[-1].timestamp for part, records in consumer.records.items() if records), default=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topic_messages, "consumer_of", consumer_of)
        patch.setattr(topic_messages, "partitions", parts)
        patch.setattr(topic_messages, "newest_timestamp_ms", newest_ms)
        yield


@given(st.lists(st.lists(st.integers(0, 9), max_size=8).map(sorted), min_size=2, max_size=2), st.integers(1, 4))
def test_records_of_all_partitions_come_by_their_timestamps_and_few_of_each_wait(
    times: list[list[int]], polled_max: int
) -> None:
    records = {part: topic(part, *at_ms, first=5) for part, at_ms in zip(LOGS, times, strict=True)}
    consumer = Consumer(records, polled_max, ends=dict.fromkeys(LOGS, 20))  # the last offsets are marks of transactions
    offsets = {LOGS[0]: range(6, 20), LOGS[1]: range(5, 9)}
    found = []
    with broker(consumer):
        for record, _ in records_between("kafka:9092", offsets, 0):
            found.append(record)
            assert consumer.given - len(found) <= 2 * (polled_max + 1), "the rest is still at the broker"
    every = [record for part in LOGS for record in records[part] if record.offset in offsets[part]]
    assert found == sorted(every, key=lambda record: (record.timestamp, record.partition, record.offset))


def test_a_broker_that_sends_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_messages, "ANSWER_MS", -1)
    consumer = Consumer({LOGS[0]: topic(LOGS[0], 1, 2)})
    monkeypatch.setattr(consumer, "poll", lambda timeout_ms: {})
    with broker(consumer), pytest.raises(CommandFailed, match="2 messages do not come"):
        list(records_between("kafka:9092", {LOGS[0]: range(2)}, 0))


def test_a_partition_whose_beginning_is_deleted_while_it_is_read_is_said_and_not_left_out() -> None:
    records = {LOGS[0]: topic(LOGS[0], 1, 2), LOGS[1]: topic(LOGS[1], 1, 2, first=7)}
    says = "offset 5 of logs_raw/1 was deleted meanwhile: begin later"
    with broker(Consumer(records)), pytest.raises(CommandFailed, match=says):
        list(records_between("kafka:9092", {LOGS[0]: range(2), LOGS[1]: range(5, 9)}, 0))


def reached(idle_ms: int, *times: tuple[int, ...], polled_max: int = 1) -> list[tuple[int, int, int]]:
    """Return of each record of partitions with these times: partition, time, and what all have reached with it."""
    records = {part: topic(part, *at_ms) for part, at_ms in zip(LOGS, times, strict=True)}
    with broker(Consumer(records, polled_max)):
        found = list(records_between("kafka:9092", {part: range(len(records[part])) for part in LOGS}, idle_ms))
    return [(record.partition, record.timestamp, reached_ms) for record, reached_ms in found]


@pytest.mark.parametrize("polled_max", [1, 2, 9])
def test_a_record_ahead_of_its_time_holds_up_no_partition_and_is_the_time_of_none_but_its_own(polled_max: int) -> None:
    assert reached(0, (1, 3_600, 5, 7), (2, 4, 6, 8), polled_max=polled_max) == [
        (0, 1, 0),
        (1, 2, 1),
        (1, 4, 1),
        (0, 3_600, 4),
        (0, 5, 4),
        (1, 6, 6),
        (0, 7, 6),
        (1, 8, 8),
    ]


def test_a_partition_that_is_idle_for_longer_than_in_the_job_is_not_waited_for() -> None:
    assert reached(10, (1, 5, 20, 30), (2, 40)) == [
        (0, 1, 0),
        (1, 2, 1),
        (0, 5, 2),
        (0, 20, 20),
        (0, 30, 30),
        (1, 40, 40),
    ]
    assert reached(0, (1, 5, 20, 30), (2, 40))[-2:] == [(0, 30, 2), (1, 40, 40)], "0 waits"


def test_what_came_before_the_newest_message_of_all_topics_has_these_offsets() -> None:
    with broker(Consumer({LOGS[0]: topic(LOGS[0], 0, 50, 90, first=7), LOGS[1]: topic(LOGS[1], 100)})):
        assert offsets_since("kafka:9092", ["logs_raw"], 50) == {LOGS[0]: range(8, 10), LOGS[1]: range(1)}
        assert offsets_since("kafka:9092", ["logs_raw"], 5) == {LOGS[1]: range(1)}


@pytest.mark.parametrize(
    ("texts", "error", "says"),
    [
        (["logs_raw:1-2"], WrongUse, "expected TOPIC/PARTITION:FIRST-LAST, such as logs_raw/0:100-200"),
        (["other/0:1-2"], WrongUse, "expected TOPIC/PARTITION"),
        (["logs_raw/0:2-1"], WrongUse, "expected TOPIC/PARTITION"),
        (["logs_raw/0:1-" + "9" * 5_000], WrongUse, "expected TOPIC/PARTITION"),
        (["logs_raw/x:1-2-3"], WrongUse, "--offsets is 'logs_raw/x:1-2-3', expected TOPIC/PARTITION"),
        (["logs_raw/0:-100-200"], WrongUse, "expected TOPIC/PARTITION"),
        (["logs_raw/0:a-1-2"], WrongUse, "expected TOPIC/PARTITION"),
        (["logs_raw/0:1-2\n"], WrongUse, "expected TOPIC/PARTITION"),
        (["logs_raw/0:7-7", "logs_raw/0:8-8"], WrongUse, "expected one range of each partition"),
        (["logs_raw/0:6-7"], CommandFailed, "logs_raw/0 on kafka:9092 has offsets 7 to 8, expected 6 to 7"),
        (["logs_raw/0:7-9"], CommandFailed, "has offsets 7 to 8, expected 7 to 9"),
        (["logs_raw/5:0-0"], CommandFailed, "logs_raw/5 on kafka:9092 has no message"),
    ],
)
def test_offsets_that_are_not_there_are_refused(texts: list[str], error: type[Exception], says: str) -> None:
    with broker(Consumer({LOGS[0]: topic(LOGS[0], 1, 2, first=7)})), pytest.raises(error, match=says):
        offsets_named("kafka:9092", ["logs_raw"], texts)


def test_offsets_are_named_as_evidence_has_them() -> None:
    with broker(Consumer({LOGS[0]: topic(LOGS[0], 1, 2, 3, first=7)})):
        assert offsets_named("kafka:9092", ["logs_raw"], ["logs_raw/0:7-8"]) == {LOGS[0]: range(7, 9)}


LINES = [
    (0, line("users", 0, "request timed out after 30 s")),
    *((10, line(service, 10, "connection pool exhausted")) for service in ("cart", "shop", "users")),
    (50, line("cart", 50, "request timed out after 30 s")),
    (86_400, line("other", 86_400, "a day later")),
]


def options(tmp_path: Path) -> tuple[str, ...]:
    """Return the options of a job that has a topic of logs alone."""
    lake = {"uri": f"jdbc:sqlite:{tmp_path}/none.db", "warehouse": f"file://{tmp_path}/none"}
    topics = {"traces": "", "metrics": "", "rules": "insight_rules"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"lake": lake, "kafka": {"topics": topics}}))
    (tmp_path / "pool.yaml").write_text(POOL)
    return (str(tmp_path / "pool.yaml"), "--config", str(tmp_path / "job.yaml"), "--json")


def logged(part: TopicPartition, *lines: tuple[int, str]) -> list[Record]:
    """Return the records of a partition: each at so many seconds, with these bytes."""
    return [
        Record(part.topic, part.partition, offset, START_MS + at_s * 1_000, text.encode())
        for offset, (at_s, text) in enumerate(lines)
    ]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Return the options of a job whose topic of logs has the lines, in turn in each of its partitions."""
    records = {part: logged(part, *LINES[number::2]) for number, part in enumerate(LOGS)}
    with broker(Consumer(records)):
        yield options(tmp_path)


def test_a_backtest_over_topics_finds_what_one_over_their_recording_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, job: tuple[str, ...]
) -> None:
    recording = tmp_path / "recording.jsonl"
    recording.write_text("".join(f"{text}\n" for _, text in LINES))
    rules = job[0]
    assert run(monkeypatch, "rules", "backtest", rules, "--data", str(recording), "--json") == 0
    expected = json.loads(capsys.readouterr().out)
    assert (expected["insights"], expected["signals"]) == (1, {"pool": 3, "timeout": 2})
    assert run(monkeypatch, "rules", "backtest", *job, "--since", "2d") == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert run(monkeypatch, "rules", "backtest", *job, "--offsets", "logs_raw/1:0-1") == 0
    part = json.loads(capsys.readouterr().out)
    assert (part["insights"], part["signals"]) == (0, {"pool": 2, "timeout": 0})


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--data", "x", "--config", "y"),
        ("--data", "x", "--offsets", "logs_raw/0:1-2"),
        ("--data", "x", "--since", "banana"),
        ("--config", "y", "--since", "1h", "--offsets", "logs_raw/0:1-2"),
    ],
)
def test_a_backtest_is_over_recordings_or_over_topics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, "rules", "backtest", "rules.yaml", *words) == 2
    assert "expected one of --data and --config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kafka", "says"),
    [
        ({"properties": {"security.protocol": "SASL_SSL"}}, "reaches its brokers by kafka.properties"),
        ({"topics": {"traces": "", "logs": "", "metrics": ""}}, "has no topic: backtest a recording by --data"),
    ],
)
def test_a_job_whose_topics_cannot_be_read_is_refused_before_kafka_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: tuple[str, ...],
    kafka: dict[str, object],
    says: str,
) -> None:
    file = Path(job[2])
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"kafka": kafka}))
    monkeypatch.delattr(topic_messages, "consumer_of")
    assert run(monkeypatch, "rules", "backtest", *job) == 2
    assert says in capsys.readouterr().err


def test_rules_with_faults_are_refused_before_kafka_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: tuple[str, ...]
) -> None:
    Path(job[0]).write_text(POOL.replace("body|contains", "bdoy|contains"))
    monkeypatch.delattr(topic_messages, "consumer_of")
    assert run(monkeypatch, "rules", "backtest", *job) == 2
    assert "did you mean body?" in capsys.readouterr().err


def backtested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, *parts: list[Record]
) -> tuple[object, str, str]:
    """Return the exit code of a backtest over these partitions, and what it prints and says."""
    with broker(Consumer(dict(zip(LOGS, parts, strict=True)), polled_max=100)):
        code, said = run(monkeypatch, "rules", "backtest", *options(tmp_path)), capsys.readouterr()
    return code, said.out, said.err


def test_one_message_ahead_of_its_time_loses_no_match(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ahead = (3_600, line("other", 3_600, "of a host whose clock is an hour ahead"))
    pool, timeout = LINES[1], LINES[4]
    beside = logged(LOGS[1], *((at_s, line("other", at_s, "beside")) for at_s in range(0, 120, 10)))
    code, out, err = backtested(monkeypatch, capsys, tmp_path, logged(LOGS[0], ahead, pool, timeout), beside)
    assert (code, json.loads(out)["insights"], json.loads(out)["late"]) == (0, 1, 0), err


def test_what_of_the_messages_did_not_count_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    late, future = (line("cart", at_s, "connection pool exhausted") for at_s in (-600, 90_000))
    parts = logged(LOGS[0], LINES[1], (11, "no OTLP"), (12, late), (13, future)), logged(LOGS[1], LINES[4])
    code, out, err = backtested(monkeypatch, capsys, tmp_path, *parts)
    assert code == 0
    found = json.loads(out)
    assert [found[name] for name in ("messages", "undecoded", "rejected", "dead_letters", "late")] == [5, 1, 1, 2, 1]
    assert "of 5 messages 1 could not be decoded; records rejected: 1, dead letters in a job: 2" in err
    assert "late records, which no rule saw: 1" in err


def test_a_backtest_that_read_nothing_or_decoded_nothing_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = logged(LOGS[0], *((at_s, "no OTLP") for at_s in range(5)))
    code, out, err = backtested(monkeypatch, capsys, tmp_path, broken, [])
    assert (code, out) == (1, "")
    assert "found 5 messages, of which none can be decoded, the first because of malformed_protobuf: " in err
    code, out, err = backtested(monkeypatch, capsys, tmp_path, [], [])
    assert (code, out) == (1, "")
    assert "found no message, expected OTLP" in err
    (tmp_path / "none.jsonl").write_text("")
    rules = options(tmp_path)[0]
    assert run(monkeypatch, "rules", "backtest", rules, "--data", str(tmp_path / "none.jsonl")) == 1
    assert "found no message, expected OTLP" in capsys.readouterr().err
